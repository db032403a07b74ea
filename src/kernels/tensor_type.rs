use std::fmt;

use crate::spec::DType;

/// Dtype and dimensions of a function's parameter or result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub dims: Vec<usize>,
}

impl TensorType {
    /// A type of these dimensions.
    pub fn new(dtype: DType, dims: &[usize]) -> Self {
        TensorType { dtype, dims: dims.to_vec() }
    }
}

/// MLIR spelling, `tensor<2x3xf32>`.
impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor<")?;
        for d in &self.dims {
            write!(f, "{d}x")?;
        }
        write!(f, "{}>", self.dtype)
    }
}
