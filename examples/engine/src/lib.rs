//! A small scoring engine for Llama-family GGUF models: what a real engine does around this crate.
//!
//! ```text
//! GGUF file ─ ModelFile ─┬─ Metadata ─┬─ Tokenizer     text → token ids
//!                        │            └─ LlamaConfig
//!                        └─ Tensors ─ Weights ─ Llama   a ForwardPass for tpu_rpa::score::Scorer
//! JSON ─ wire::Reader ─ ScoreRequest ─ Scorer<Llama> ─ wire::Scoring ─ JSON     (Service)
//! many tasks ─ Dispatcher ─ one thread that owns the Scorer, and with it the device
//! ```

mod args;
mod checkpoint;
mod config;
mod container;
mod dispatch;
mod error;
mod files;
pub mod jsonl;
mod llama;
mod metadata;
mod model_file;
mod one_line;
pub mod program;
mod service;
mod shown;
mod tensors;
mod tokenizer;
mod weights;
pub mod wire;

pub use args::ModelArgs;
pub use checkpoint::Checkpoint;
pub use config::LlamaConfig;
pub use dispatch::{DispatchError, Dispatcher, PassReport};
pub use error::EngineError;
pub use files::{cache_folder, model_path};
pub use llama::Llama;
pub use metadata::{Metadata, Neutral};
pub use model_file::ModelFile;
pub use one_line::one_line;
pub use service::{Service, Setup};
pub use tensors::{Tensor, Tensors};
pub use tokenizer::Tokenizer;
