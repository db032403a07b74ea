use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tpu_rpa::spec::DType;

use super::{Setup, cache_folder, model_path};

/// Which model runs where: the same for every program.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// GGUF model of the Llama family with a SmolLM tokenizer; the one in the tool folder if not named
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// PJRT plugin; found in the environment or the tool folder if not named
    #[arg(long, value_name = "FILE")]
    pub plugin: Option<PathBuf>,
    /// Storage of weights, KV pages and matrix inputs; sums are f32 either way
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Storage,
    /// Tokens that one forward pass should not exceed: bounds memory, does not change scores
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub token_budget: usize,
}

impl ModelArgs {
    /// What they ask for.
    pub fn setup(&self) -> Setup {
        Setup {
            model: self.model.clone().unwrap_or_else(model_path),
            plugin: self.plugin.clone(),
            dtype: self.dtype.into(),
            cache: cache_folder(),
        }
    }
}

/// Storage types.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Storage {
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
