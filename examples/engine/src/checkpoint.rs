use std::path::Path;

use super::{EngineError, LlamaConfig, ModelFile, Tokenizer};

/// A model file whose metadata is read to the last key; nothing of it is on a device.
pub struct Checkpoint {
    /// Its tensors.
    pub file: ModelFile,
    /// Its shape.
    pub config: LlamaConfig,
    /// Its text side.
    pub tokenizer: Tokenizer,
}

impl Checkpoint {
    /// Opens the file, and refuses one that asks for what this engine does not do.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let file = ModelFile::open(path)?;
        let mut metadata = file.metadata();
        let config = LlamaConfig::read(&file, &mut metadata)?;
        let tokenizer = Tokenizer::read(&mut metadata)?;
        metadata.finish()?;
        Ok(Checkpoint { file, config, tokenizer })
    }
}
