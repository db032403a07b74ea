use super::DType;
use super::attention::page_size as checked_page_size;
use super::error::{SpecError, float, index_sized, row};

/// Static shape of the KV-page write.
///
/// `k`, `v [T, kv_heads, head_dim]` go into `kv_pages [pages, 2, kv_heads, page_size, head_dim]`; all of `dtype`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KvWriteSpec {
    kv_heads: usize,
    head_dim: usize,
    page_size: usize,
    dtype: DType,
}

impl KvWriteSpec {
    /// Checks every field; bounds are those of [`AttentionSpec`](super::AttentionSpec), any `head_dim`.
    pub fn new(kv_heads: usize, head_dim: usize, page_size: usize, dtype: DType) -> Result<Self, SpecError> {
        index_sized("kv_heads", kv_heads)?;
        index_sized("head_dim", head_dim)?;
        row("kv_heads", kv_heads, head_dim)?;
        Ok(KvWriteSpec {
            kv_heads,
            head_dim,
            page_size: checked_page_size(page_size)?,
            dtype: float("dtype", dtype)?,
        })
    }

    /// Key/value heads.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }
    /// Elements of one head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }
    /// Tokens of one KV page.
    pub fn page_size(&self) -> usize {
        self.page_size
    }
    /// Element type of rows and pages.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}

impl From<&super::AttentionSpec> for KvWriteSpec {
    fn from(a: &super::AttentionSpec) -> Self {
        KvWriteSpec {
            kv_heads: a.kv_heads(),
            head_dim: a.head_dim(),
            page_size: a.page_size(),
            dtype: a.dtype(),
        }
    }
}
