use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value};

use super::EngineError;

/// An open GGUF file: metadata in memory, tensors read and dequantised one at a time.
pub struct ModelFile {
    path: PathBuf,
    content: Content,
    reader: BufReader<File>,
}

impl ModelFile {
    /// Opens the file and reads its metadata.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(EngineError::NoModel { path: path.into() });
            }
            Err(source) => return Err(EngineError::Open { path: path.into(), source }),
        };
        let mut reader = BufReader::new(file);
        let content =
            Content::read(&mut reader).map_err(|source| EngineError::Gguf { path: path.into(), source })?;
        Ok(ModelFile { path: path.into(), content, reader })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A text entry of the metadata.
    pub fn string(&self, key: &str) -> Result<&str, EngineError> {
        self.value(key)?.to_string().map(String::as_str).map_err(|e| self.wrong(key, &e))
    }

    /// A count in the metadata.
    pub fn count(&self, key: &str) -> Result<usize, EngineError> {
        self.value(key)?.to_u32().map(|n| n as usize).map_err(|e| self.wrong(key, &e))
    }

    /// A real number in the metadata.
    pub fn real(&self, key: &str) -> Result<f32, EngineError> {
        self.value(key)?.to_f32().map_err(|e| self.wrong(key, &e))
    }

    /// A flag in the metadata, false where there is none.
    pub fn flag(&self, key: &str) -> Result<bool, EngineError> {
        match self.content.metadata.get(key) {
            None => Ok(false),
            Some(value) => value.to_bool().map_err(|e| self.wrong(key, &e)),
        }
    }

    /// A list of texts in the metadata.
    pub fn strings(&self, key: &str) -> Result<Vec<&str>, EngineError> {
        let list = self.value(key)?.to_vec().map_err(|e| self.wrong(key, &e))?;
        list.iter().map(|v| v.to_string().map(String::as_str).map_err(|e| self.wrong(key, &e))).collect()
    }

    /// A list of integers in the metadata.
    pub fn integers(&self, key: &str) -> Result<Vec<i32>, EngineError> {
        let list = self.value(key)?.to_vec().map_err(|e| self.wrong(key, &e))?;
        list.iter().map(|v| v.to_i32().map_err(|e| self.wrong(key, &e))).collect()
    }

    /// Whether there is a tensor of this name.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// A tensor as f32, row-major, which must have `dims`, slowest first.
    pub fn tensor(&mut self, name: &str, dims: &[usize]) -> Result<Vec<f32>, EngineError> {
        let read = || -> candle_core::Result<_> {
            let tensor = self.content.tensor(&mut self.reader, name, &Device::Cpu)?;
            Ok((tensor.shape().dims().to_vec(), tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?))
        };
        let (found, values) =
            { read }().map_err(|source| EngineError::Gguf { path: self.path.clone(), source })?;
        if found != dims {
            return Err(EngineError::Unsupported {
                key: name.into(),
                found: format!("{found:?}"),
                expected: format!("the metadata asks for {dims:?}"),
            });
        }
        Ok(values)
    }

    fn value(&self, key: &str) -> Result<&Value, EngineError> {
        self.content.metadata.get(key).ok_or_else(|| EngineError::Unsupported {
            key: key.into(),
            found: "missing".into(),
            expected: "this engine needs it".into(),
        })
    }

    fn wrong(&self, key: &str, error: &candle_core::Error) -> EngineError {
        EngineError::Unsupported {
            key: key.into(),
            found: "of another type".into(),
            expected: error.to_string(),
        }
    }
}
