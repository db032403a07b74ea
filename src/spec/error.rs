/// Why a spec was refused. Every message names the field, the value and the bound.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A count that must be positive is zero.
    #[error("{field} is 0; it must be at least 1")]
    Zero {
        /// The field.
        field: &'static str,
    },
    /// Query heads are not a whole multiple of KV heads.
    #[error("q_heads is {q_heads}; it must be a multiple of kv_heads ({kv_heads})")]
    HeadRatio {
        /// Query heads asked for.
        q_heads: usize,
        /// KV heads asked for.
        kv_heads: usize,
    },
    /// A value is not one of those that a kernel exists for.
    #[error("{field} is {value}; supported: {supported}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// The value, as text.
        value: String,
        /// What is supported, as text.
        supported: &'static str,
    },
    /// A page size that kernels cannot copy.
    #[error("page_size is {page_size}; it must be {rule}")]
    PageSize {
        /// The page size asked for, in tokens.
        page_size: usize,
        /// The rule that it breaks.
        rule: PageRule,
    },
    /// A real number is outside its open or closed interval.
    #[error("{field} is {value}; it must be {bound}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// The value, as text.
        value: String,
        /// The bound, as text.
        bound: &'static str,
    },
}

/// What a page size must be, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PageRule {
    /// A multiple of 8. Mosaic's alignment rule for DMA: an offset on a tiled dimension is a multiple of the tile, of 8
    /// rows; so pages are written in aligned chunks of 8 tokens.
    WholeTiles,
    /// A power of two, so that a page never straddles a key tile.
    PowerOfTwo,
    /// At most 1024, for a key tile holds at least a page.
    KeyTile,
}

impl std::fmt::Display for PageRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PageRule::WholeTiles => {
                "a positive multiple of 8: DMA offsets are multiples of a tile's 8 rows, and pages are written in such chunks"
            }
            PageRule::PowerOfTwo => "a power of two: a page never straddles a key tile",
            PageRule::KeyTile => "at most 1024: a key tile holds at least a page",
        })
    }
}

/// `Err(Zero)` when `value` is 0.
pub(crate) fn positive(field: &'static str, value: usize) -> Result<usize, SpecError> {
    if value == 0 { Err(SpecError::Zero { field }) } else { Ok(value) }
}

/// `Err(OutOfRange)` when `value` does not fit an `i32`, the type of every device-side index.
pub(crate) fn index_sized(field: &'static str, value: usize) -> Result<usize, SpecError> {
    positive(field, value)?;
    if value > i32::MAX as usize {
        return Err(SpecError::OutOfRange { field, value: value.to_string(), bound: "at most 2147483647" });
    }
    Ok(value)
}

/// `Err(OutOfRange)` when a token's elements do not fit an `i32`.
pub(crate) fn row(field: &'static str, heads: usize, head_dim: usize) -> Result<(), SpecError> {
    match heads.checked_mul(head_dim) {
        Some(elements) if elements <= i32::MAX as usize => Ok(()),
        _ => {
            let bound = "such that it times head_dim is at most 2147483647";
            Err(SpecError::OutOfRange { field, value: heads.to_string(), bound })
        }
    }
}

/// `Err(Unsupported)` for a dtype that kernels do not compute on.
pub(crate) fn float(field: &'static str, dtype: super::DType) -> Result<super::DType, SpecError> {
    if dtype.is_float() {
        Ok(dtype)
    } else {
        Err(SpecError::Unsupported { field, value: dtype.to_string(), supported: "f32, bf16" })
    }
}
