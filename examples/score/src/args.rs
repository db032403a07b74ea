use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use tpu_rpa::score;

use engine::ModelArgs;

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
    #[command(flatten)]
    pub(crate) model: ModelArgs,
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
