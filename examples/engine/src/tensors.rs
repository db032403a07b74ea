use std::collections::BTreeMap;

use anamnesis::GgufTensorInfo;
use half::bf16;
use tpu_rpa::spec::DType;

use super::shown::shown;
use super::{EngineError, ModelFile};

/// Tensors of a model file while they are claimed: a value is read by way of a claim alone, and [`finish`](Self::finish)
/// refuses a file with a tensor that nobody claimed.
pub struct Tensors<'a> {
    file: &'a ModelFile,
    left: BTreeMap<&'a str, &'a GgufTensorInfo>,
}

/// A claimed tensor.
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    file: &'a ModelFile,
    info: &'a GgufTensorInfo,
}

impl<'a> Tensors<'a> {
    pub(super) fn new(file: &'a ModelFile, infos: &'a [GgufTensorInfo]) -> Self {
        Tensors { file, left: infos.iter().map(|info| (info.name.as_str(), info)).collect() }
    }

    /// Whether there is an unclaimed tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Claims a tensor, which must have `dims`, slowest first.
    pub fn take(&mut self, name: &str, dims: &[usize]) -> Result<Tensor<'a>, EngineError> {
        let refused = |found: String| EngineError::Unrunnable {
            name: shown(name),
            found,
            expected: format!("the metadata asks for {dims:?}"),
        };
        let info = self.left.remove(name).ok_or_else(|| refused("missing".into()))?;
        // GGUF counts dimensions from the fastest.
        if !info.shape.iter().rev().eq(dims) {
            let found: Vec<usize> = info.shape.iter().rev().copied().collect();
            return Err(refused(format!("{found:?}")));
        }
        Ok(Tensor { file: self.file, info })
    }

    /// Refuses a file with a tensor that nobody claimed.
    pub fn finish(self) -> Result<(), EngineError> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(EngineError::Unrunnable {
                name: shown(name),
                found: "in the file".into(),
                expected: "this engine does not know what it is for".into(),
            }),
        }
    }
}

impl Tensor<'_> {
    /// Its values, row-major. Each is finite, and stays so when it is stored as `dtype`.
    pub fn values(&self, dtype: DType) -> Result<Vec<f32>, EngineError> {
        let values = self.file.values(self.info)?;
        let most = if dtype == DType::Bf16 { bf16::MAX.to_f32() } else { f32::MAX };
        // NaN is not within it either.
        let fits = |value: &f32| value.abs() <= most;
        // A fold without a way out is what the compiler makes fast.
        if values.iter().fold(true, |all, value| all & fits(value)) {
            return Ok(values);
        }
        let first = values.iter().position(|value| !fits(value)).unwrap_or_default();
        let mut index: Vec<usize> = Vec::new();
        let mut rest = first;
        for &extent in &self.info.shape {
            index.insert(0, rest % extent);
            rest /= extent;
        }
        Err(EngineError::Unrunnable {
            name: format!("{}{index:?}", shown(&self.info.name)),
            found: format!("{:?}", values[first]),
            expected: format!("weights must be finite in {dtype}"),
        })
    }
}
