//! A small scoring engine for Llama-family GGUF models: what a real engine does around this crate.
//!
//! ```text
//! GGUF file ─ ModelFile ─┬─ Tokenizer          text → token ids
//!                        └─ Weights ─ Llama    a ForwardPass for tpu_rpa::score::Scorer
//! JSON ─ wire::parse ─ ScoreRequest ─ Scorer<Llama> ─ wire::Scoring ─ JSON      (Service)
//! ```
//!
//! Shared by several programs, none of which uses all of it.
#![allow(dead_code)]

mod config;
mod error;
mod files;
pub mod jsonl;
mod llama;
mod model_file;
pub mod program;
mod service;
mod tokenizer;
mod weights;
pub mod wire;

pub use config::LlamaConfig;
pub use error::EngineError;
pub use files::{cache_folder, model_path};
pub use llama::Llama;
pub use model_file::ModelFile;
pub use service::{Service, Setup};
pub use tokenizer::Tokenizer;
