use std::path::PathBuf;

use tpu_rpa::batch::BatchError;
use tpu_rpa::kernels::{KernelError, TpuKind};
use tpu_rpa::runtime::RuntimeError;
use tpu_rpa::spec::SpecError;

use super::shown::shown;

/// Why the engine could not be set up, or could not run a pass.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no model where it is looked for.
    #[error("there is no model at {}: run `make tools` to fetch it, or name a GGUF file with --model", path.display())]
    NoModel {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The model file cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file is not readable as GGUF.
    #[error("{}: {source}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// The reader's words.
        source: anamnesis::AnamnesisError,
    },
    /// A tensor cannot be read.
    #[error("{}: tensor {name}: {source}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The reader's words.
        source: anamnesis::AnamnesisError,
    },
    /// The header has a key more than once.
    #[error("{}: the header has {found} keys, {different} of them different", path.display())]
    RepeatedKey {
        /// The file.
        path: PathBuf,
        /// Keys of the header.
        found: u64,
        /// Keys of the header that differ.
        different: usize,
    },
    /// The metadata asks for what this engine does not do, or for nothing that makes sense.
    #[error("model metadata: {key} is {found}; {expected}")]
    Metadata {
        /// Metadata key.
        key: String,
        /// What the file has.
        found: String,
        /// What the engine takes.
        expected: String,
    },
    /// A tensor is not one that the metadata asks for, or has values that no weight has.
    #[error("model tensor {name} is {found}; {expected}")]
    Unrunnable {
        /// Tensor name, with the index of a value.
        name: String,
        /// What the file has.
        found: String,
        /// What the engine takes.
        expected: String,
    },
    /// The vocabulary in the file does not make a tokenizer.
    #[error("model metadata: {key}: {}", shown(&source.to_string()))]
    Tokenizer {
        /// Metadata key.
        key: &'static str,
        /// The tokenizer's words.
        source: tokenizers::Error,
    },
    /// A text does not become tokens.
    #[error("tokenizer: {}", shown(&.0.to_string()))]
    Encode(#[source] tokenizers::Error),
    /// The KV pages of the model's context do not fit into memory.
    #[error("context_length is {context}; its KV pages take {bytes} bytes, more than this machine gives")]
    KvPages {
        /// Tokens of the context.
        context: usize,
        /// Bytes of the pages of all layers.
        bytes: u128,
    },
    /// The program template does not render.
    #[error("program template: {0}")]
    Template(#[from] minijinja::Error),
    /// A kernel cannot be made for the model's shapes.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The model's shapes are not ones that kernels exist for.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A TPU is to be interpreted, and the program was built without the emulator.
    #[error("--interpret-tpu={0} needs the emulator: build with `--features emulator`")]
    NoEmulator(TpuKind),
    /// The model's limits make no scorer.
    #[error(transparent)]
    Limits(Box<tpu_rpa::score::ScoreError>),
    /// The attention kernel's block sizes do not suit the page size.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// There is no plugin.
    #[error("there is no PJRT plugin: run `make tools` to fetch one, or name one with --plugin")]
    NoPlugin {
        /// What was tried.
        source: RuntimeError,
    },
    /// The plugin failed.
    #[error(transparent)]
    Runtime(RuntimeError),
}

impl From<RuntimeError> for EngineError {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::NoPlugin { .. } => EngineError::NoPlugin { source: error },
            other => EngineError::Runtime(other),
        }
    }
}
