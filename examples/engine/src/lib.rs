//! A small scoring engine for Llama-family GGUF models: what a real engine does around this crate.
//!
//! ```text
//! GGUF file ─ ModelFile ─┬─ Tokenizer          text → token ids
//!                        └─ Weights ─ Llama    a ForwardPass for tpu_rpa::score::Scorer
//! JSON ─ wire::Reader ─ ScoreRequest ─ Scorer<Llama> ─ wire::Scoring ─ JSON     (Service)
//! many tasks ─ Dispatcher ─ one thread that owns the Scorer, and with it the device
//! ```

mod args;
mod config;
mod dispatch;
mod error;
mod files;
pub mod jsonl;
mod llama;
mod model_file;
mod one_line;
pub mod program;
mod service;
mod tokenizer;
mod weights;
pub mod wire;

pub use args::ModelArgs;
pub use config::LlamaConfig;
pub use dispatch::{DispatchError, Dispatcher, PassReport};
pub use error::EngineError;
pub use files::{cache_folder, model_path};
pub use llama::Llama;
pub use model_file::ModelFile;
pub use one_line::one_line;
pub use service::{Service, Setup};
pub use tokenizer::Tokenizer;
