use super::DType;
use super::error::{PageRule, SpecError, float, index_sized, positive, row};

/// Static shape of ragged paged attention.
///
/// Tensors of a kernel built from it, with `T` tokens of a bucket:
/// `q [T, q_heads, head_dim]`, `k` and `v [T, kv_heads, head_dim]`,
/// `kv_pages [pages, 2, kv_heads, page_size, head_dim]` (K at index 0, V at 1), result like `q`; all of `dtype`.
/// Query head `h` reads KV head `h / (q_heads / kv_heads)`.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    q_heads: usize,
    kv_heads: usize,
    head_dim: usize,
    page_size: usize,
    dtype: DType,
    scale: f32,
    soft_cap: Option<f32>,
    sliding_window: Option<u32>,
}

impl AttentionSpec {
    /// Head dimensions that kernels exist for; pad others with zeros and pass the unpadded scale.
    pub const HEAD_DIMS: [usize; 3] = [64, 128, 256];

    /// Starts a spec with page size 16, f32, scale `1/sqrt(head_dim)`, no soft cap, no sliding window.
    pub fn builder(q_heads: usize, kv_heads: usize, head_dim: usize) -> AttentionSpecBuilder {
        AttentionSpecBuilder {
            spec: AttentionSpec {
                q_heads,
                kv_heads,
                head_dim,
                page_size: 16,
                dtype: DType::F32,
                scale: 1.0 / (head_dim as f32).sqrt(),
                soft_cap: None,
                sliding_window: None,
            },
        }
    }

    /// Query heads.
    pub fn q_heads(&self) -> usize {
        self.q_heads
    }
    /// Key/value heads.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }
    /// Query heads that share one KV head.
    pub fn group_size(&self) -> usize {
        self.q_heads / self.kv_heads
    }
    /// Elements of one head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }
    /// Tokens of one KV page.
    pub fn page_size(&self) -> usize {
        self.page_size
    }
    /// Element type of q, k, v, pages and result.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// Factor on q·k before soft cap and softmax.
    pub fn scale(&self) -> f32 {
        self.scale
    }
    /// `c` of `s ← c·tanh(s/c)`, applied after the scale.
    pub fn soft_cap(&self) -> Option<f32> {
        self.soft_cap
    }
    /// Keys a query may look back on, itself included, counted in positions.
    pub fn sliding_window(&self) -> Option<u32> {
        self.sliding_window
    }
}

/// Builds an [`AttentionSpec`]; [`build`](Self::build) checks all of it.
#[derive(Clone, Debug)]
#[must_use]
pub struct AttentionSpecBuilder {
    spec: AttentionSpec,
}

impl AttentionSpecBuilder {
    /// Tokens of one KV page: a power of two from 8 to 1024.
    pub fn page_size(mut self, tokens: usize) -> Self {
        self.spec.page_size = tokens;
        self
    }
    /// Element type of q, k, v, pages and result: f32 or bf16.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.spec.dtype = dtype;
        self
    }
    /// Factor on q·k; finite and positive.
    pub fn scale(mut self, scale: f32) -> Self {
        self.spec.scale = scale;
        self
    }
    /// Caps scores at `±cap` by `cap·tanh(s/cap)`; finite and positive.
    pub fn soft_cap(mut self, cap: f32) -> Self {
        self.spec.soft_cap = Some(cap);
        self
    }
    /// Limits a query at position `p` to keys at positions above `p - window`; at least 1.
    pub fn sliding_window(mut self, window: u32) -> Self {
        self.spec.sliding_window = Some(window);
        self
    }

    /// Checks every field.
    pub fn build(self) -> Result<AttentionSpec, SpecError> {
        let s = self.spec;
        index_sized("q_heads", s.q_heads)?;
        index_sized("kv_heads", s.kv_heads)?;
        if !s.q_heads.is_multiple_of(s.kv_heads) {
            return Err(SpecError::HeadRatio { q_heads: s.q_heads, kv_heads: s.kv_heads });
        }
        if !AttentionSpec::HEAD_DIMS.contains(&s.head_dim) {
            return Err(SpecError::Unsupported {
                field: "head_dim",
                value: s.head_dim.to_string(),
                supported: "64, 128, 256",
            });
        }
        row("q_heads", s.q_heads, s.head_dim)?;
        page_size(s.page_size)?;
        float("dtype", s.dtype)?;
        positive_real("scale", s.scale)?;
        if let Some(cap) = s.soft_cap {
            positive_real("soft_cap", cap)?;
        }
        if let Some(window) = s.sliding_window {
            positive("sliding_window", window as usize)?;
            if window > i32::MAX as u32 {
                return Err(SpecError::OutOfRange {
                    field: "sliding_window",
                    value: window.to_string(),
                    bound: "at most 2147483647",
                });
            }
        }
        Ok(s)
    }
}

fn positive_real(field: &'static str, value: f32) -> Result<(), SpecError> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(SpecError::OutOfRange { field, value: value.to_string(), bound: "finite and above 0" })
    }
}

/// Page sizes are powers of two from 8 to 1024.
pub(super) fn page_size(tokens: usize) -> Result<usize, SpecError> {
    let rule = match tokens {
        n if n == 0 || !n.is_multiple_of(8) => PageRule::WholeTiles,
        n if !n.is_power_of_two() => PageRule::PowerOfTwo,
        1025.. => PageRule::KeyTile,
        _ => return Ok(tokens),
    };
    Err(SpecError::PageSize { page_size: tokens, rule })
}
