use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use anamnesis::{AnamnesisError, F32Out, GgufTensorInfo, GgufType, ParsedGguf, parse_gguf};
use half::{bf16, f16};

use super::EngineError;
use super::metadata::Metadata;
use super::shown::shown;
use super::tensors::Tensors;

/// An open GGUF file, mapped into memory: metadata is read, tensors are dequantised one at a time.
pub struct ModelFile {
    path: PathBuf,
    content: ParsedGguf,
}

impl ModelFile {
    /// Opens the file, reads its header, and checks that it accounts for every byte.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let system = |source: io::Error| match source.kind() {
            ErrorKind::NotFound => EngineError::NoModel { path: path.into() },
            _ => EngineError::Open { path: path.into(), source },
        };
        let content = parse_gguf(path).map_err(|error| match error {
            AnamnesisError::Io(source) => system(source),
            source => EngineError::Gguf { path: path.into(), source },
        })?;
        let model = ModelFile { path: path.into(), content };
        let file = File::open(path).map_err(system)?;
        model.check_keys(&file).map_err(system)??;
        model.check_layout(file.metadata().map_err(system)?.len())?;
        Ok(model)
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata, none of it read yet.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata::new(self.content.metadata())
    }

    /// The tensors, none of them claimed yet.
    pub fn tensors(&self) -> Tensors<'_> {
        Tensors::new(self, self.content.tensor_info())
    }

    /// Tensors of the file.
    pub fn tensor_count(&self) -> usize {
        self.content.len()
    }

    /// Blocks, as layers are called here, that there are tensors of: one more than the highest.
    pub fn blocks(&self) -> usize {
        let block = |info: &GgufTensorInfo| info.name.strip_prefix("blk.")?.split('.').next()?.parse().ok();
        let highest: Option<u32> = self.content.tensor_info().iter().filter_map(block).max();
        highest.map_or(0, |highest| highest as usize + 1)
    }

    /// Values of a tensor, row-major.
    pub(super) fn values(&self, info: &GgufTensorInfo) -> Result<Vec<f32>, EngineError> {
        self.dequantised(info).map_err(|source| EngineError::Tensor {
            path: self.path.clone(),
            name: shown(&info.name),
            source,
        })
    }

    fn dequantised(&self, info: &GgufTensorInfo) -> Result<Vec<f32>, AnamnesisError> {
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

    /// The reader keeps one of two equal keys: which is meant, nobody knows.
    fn check_keys(&self, mut file: &File) -> io::Result<Result<(), EngineError>> {
        // Magic, version, tensors, keys.
        let mut header = [0; 24];
        file.read_exact(&mut header)?;
        let [.., keys] = header.as_chunks().0 else { return Ok(Ok(())) };
        let (found, different) = (u64::from_le_bytes(*keys), self.content.metadata().len());
        if found == different as u64 {
            return Ok(Ok(()));
        }
        Ok(Err(EngineError::RepeatedKey { path: self.path.clone(), found, different }))
    }

    /// Tensors have names of their own and lie one behind the other up to the end of the file, as every writer lays them:
    /// an offset or an alignment that is wrong leaves a gap.
    fn check_layout(&self, file_bytes: u64) -> Result<(), EngineError> {
        let refused = |name: &str, found: String, expected: String| {
            Err(EngineError::Unrunnable { name: shown(name), found, expected })
        };
        let mut names: Vec<&str> = self.content.tensor_info().iter().map(|info| info.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return refused(pair[0], "in the file twice".into(), "names must differ".into());
        }
        let alignment = u64::from(self.content.alignment());
        let mut infos: Vec<&GgufTensorInfo> = self.content.tensor_info().iter().collect();
        infos.sort_unstable_by_key(|info| info.data_offset);
        // The reader has checked that each ends within the file.
        let end = |info: &GgufTensorInfo| info.data_offset + info.byte_len.unwrap_or_default();
        for pair in infos.windows(2) {
            let next = end(pair[0]).next_multiple_of(alignment);
            if pair[1].data_offset != next {
                let found = format!("at byte {}", pair[1].data_offset);
                let expected = format!("behind {} it must be at byte {next}", shown(&pair[0].name));
                return refused(&pair[1].name, found, expected);
            }
        }
        let Some(last) = infos.last() else { return Ok(()) };
        let rest = file_bytes - end(last);
        if rest >= alignment {
            let found = format!("the last, with {rest} bytes behind it");
            return refused(
                &last.name,
                found,
                format!("fewer than general.alignment, {alignment}, may follow"),
            );
        }
        Ok(())
    }
}
