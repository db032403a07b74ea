use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tpu_rpa::kernels::TpuKind;
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
    /// Runs the programs for a TPU of this kind (v6e if not named, v5e, v7x) on a CPU, their kernels in the emulator; needs a
    /// build with `--features emulator`
    #[arg(long, value_name = "KIND", num_args = 0..=1, require_equals = true, default_missing_value = "v6e", value_parser = tpu_kind)]
    pub interpret_tpu: Option<TpuKind>,
}

fn tpu_kind(name: &str) -> Result<TpuKind, String> {
    TpuKind::of_device(name).ok_or_else(|| "it must be v5e, v6e or v7x".to_owned())
}

impl ModelArgs {
    /// What they ask for.
    pub fn setup(&self) -> Setup {
        Setup {
            model: self.model.clone().unwrap_or_else(model_path),
            plugin: self.plugin.clone(),
            dtype: self.dtype.into(),
            cache: cache_folder(),
            interpreted: self.interpret_tpu,
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
