use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anamnesis::{
    AnamnesisError, F32Out, GgufMetadataArray, GgufMetadataValue, GgufTensorInfo, GgufType, ParsedGguf,
    parse_gguf,
};
use half::{bf16, f16};

use super::EngineError;

/// An open GGUF file, mapped into memory: metadata is read, tensors are dequantised one at a time.
pub struct ModelFile {
    path: PathBuf,
    content: ParsedGguf,
}

impl ModelFile {
    /// Opens the file and reads its metadata.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let content = parse_gguf(path).map_err(|error| match error {
            AnamnesisError::Io(source) if source.kind() == ErrorKind::NotFound => {
                EngineError::NoModel { path: path.into() }
            }
            AnamnesisError::Io(source) => EngineError::Open { path: path.into(), source },
            source => EngineError::Gguf { path: path.into(), source },
        })?;
        Ok(ModelFile { path: path.into(), content })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A text entry of the metadata.
    pub fn string(&self, key: &str) -> Result<&str, EngineError> {
        self.value(key)?.as_string().ok_or_else(|| self.wrong(key, "a text"))
    }

    /// A count in the metadata.
    pub fn count(&self, key: &str) -> Result<usize, EngineError> {
        use GgufMetadataValue::{I8, I16, I32, I64, U8, U16, U32, U64};
        let count = match *self.value(key)? {
            U8(n) => Some(n.into()),
            U16(n) => Some(n.into()),
            U32(n) => usize::try_from(n).ok(),
            U64(n) => usize::try_from(n).ok(),
            I8(n) => usize::try_from(n).ok(),
            I16(n) => usize::try_from(n).ok(),
            I32(n) => usize::try_from(n).ok(),
            I64(n) => usize::try_from(n).ok(),
            _ => None,
        };
        count.ok_or_else(|| self.wrong(key, "a count"))
    }

    /// A real number in the metadata.
    pub fn real(&self, key: &str) -> Result<f32, EngineError> {
        match *self.value(key)? {
            GgufMetadataValue::F32(x) => Ok(x),
            GgufMetadataValue::F64(x) => Ok(x as f32),
            _ => Err(self.wrong(key, "a real number")),
        }
    }

    /// A flag in the metadata, false where there is none.
    pub fn flag(&self, key: &str) -> Result<bool, EngineError> {
        match self.content.metadata().get(key) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "a flag")),
        }
    }

    /// A list of texts in the metadata.
    pub fn strings(&self, key: &str) -> Result<&[String], EngineError> {
        let list = self.value(key)?.as_array().and_then(GgufMetadataArray::as_string_slice);
        list.ok_or_else(|| self.wrong(key, "a list of texts"))
    }

    /// A list of 32-bit integers in the metadata.
    pub fn integers(&self, key: &str) -> Result<&[i32], EngineError> {
        let list = self.value(key)?.as_array().and_then(GgufMetadataArray::as_i32_slice);
        list.ok_or_else(|| self.wrong(key, "a list of 32-bit integers"))
    }

    /// Whether there is a tensor of this name.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.info(name).is_some()
    }

    /// A tensor as f32, row-major, which must have `dims`, slowest first.
    pub fn tensor(&self, name: &str, dims: &[usize]) -> Result<Vec<f32>, EngineError> {
        let info = self.info(name).ok_or_else(|| EngineError::Unsupported {
            key: name.into(),
            found: "missing".into(),
            expected: format!("the metadata asks for a tensor of {dims:?}"),
        })?;
        // GGUF counts dimensions from the fastest.
        if !info.shape.iter().rev().eq(dims) {
            let found: Vec<usize> = info.shape.iter().rev().copied().collect();
            return Err(EngineError::Unsupported {
                key: name.into(),
                found: format!("{found:?}"),
                expected: format!("the metadata asks for {dims:?}"),
            });
        }
        self.values(info).map_err(|source| EngineError::Tensor {
            path: self.path.clone(),
            name: name.into(),
            source,
        })
    }

    fn values(&self, info: &GgufTensorInfo) -> Result<Vec<f32>, AnamnesisError> {
        let float = |bytes: &[u8]| f32::from_le_bytes(std::array::from_fn(|i| bytes[i]));
        let pair = |bytes: &[u8]| [bytes[0], bytes[1]];
        let read = |size: usize, value: &dyn Fn(&[u8]) -> f32| {
            let tensor = self.content.tensors().find(|tensor| tensor.name == info.name);
            let data = tensor.map(|tensor| tensor.data).unwrap_or_default();
            data.chunks_exact(size).map(value).collect()
        };
        Ok(match info.dtype {
            GgufType::F32 => read(4, &float),
            GgufType::F16 => read(2, &|bytes| f16::from_le_bytes(pair(bytes)).to_f32()),
            GgufType::BF16 => read(2, &|bytes| bf16::from_le_bytes(pair(bytes)).to_f32()),
            // Every quantisation that the format knows; others are errors that name type and tensor.
            _ => self.content.dequantize_tensor_as::<F32Out>(info)?.chunks_exact(4).map(float).collect(),
        })
    }

    fn info(&self, name: &str) -> Option<&GgufTensorInfo> {
        self.content.tensor_info().iter().find(|info| info.name == name)
    }

    fn value(&self, key: &str) -> Result<&GgufMetadataValue, EngineError> {
        self.content.metadata().get(key).ok_or_else(|| EngineError::Unsupported {
            key: key.into(),
            found: "missing".into(),
            expected: "this engine needs it".into(),
        })
    }

    fn wrong(&self, key: &str, expected: &str) -> EngineError {
        EngineError::Unsupported {
            key: key.into(),
            found: "of another type".into(),
            expected: format!("it must be {expected}"),
        }
    }
}
