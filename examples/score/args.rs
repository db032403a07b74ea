use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use tpu_rpa::score;
use tpu_rpa::spec::DType;

/// Scores items against a query: how likely is each label token right after query + item?
///
/// Without --requests it ranks a built-in list of headlines.
#[derive(Debug, Parser)]
#[command(name = "score")]
pub(crate) struct Args {
    /// JSON Lines, one /v1/score request a line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) requests: Option<PathBuf>,
    /// Where responses go, one a line in the order of the requests; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-", requires = "requests")]
    pub(crate) output: PathBuf,
    /// How items are spread over forward passes; scores do not depend on it
    #[arg(long, value_enum, default_value = "packed")]
    pub(crate) algorithm: Algorithm,
    /// Storage of weights, KV pages and matrix inputs; sums are f32 either way
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) dtype: Storage,
    /// PJRT plugin; found in the environment or the tool folder if not named
    #[arg(long, value_name = "FILE")]
    pub(crate) plugin: Option<PathBuf>,
    /// GGUF model of the Llama family with a SmolLM tokenizer; the one in the tool folder if not named
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// Tokens that one forward pass should not exceed: bounds memory, does not change scores
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub(crate) token_budget: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Algorithm {
    /// As many items a pass as the budget allows, the query computed once
    Packed,
    /// One item a pass, the query computed again for each
    Serial,
}

impl From<Algorithm> for score::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Packed => score::Algorithm::Packed,
            Algorithm::Serial => score::Algorithm::Serial,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Storage {
    F32,
    Bf16,
}

impl From<Storage> for DType {
    fn from(storage: Storage) -> Self {
        match storage {
            Storage::F32 => DType::F32,
            Storage::Bf16 => DType::Bf16,
        }
    }
}
