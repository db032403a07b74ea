use std::fmt;

use super::function::{Function, check_name};
use super::mosaic::{self, LabelOutput};
use super::target::Target;
use super::{KernelError, attention_write, portable};
use crate::batch::{Bucket, Tiling};
use crate::spec::{AttentionSpec, DType, KvWriteSpec, LabelLogprobsSpec, LabelSet};

/// A kernel and all that is static about one call of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Kernel {
    /// Ragged paged attention, see [`attention`](super::attention).
    Attention {
        /// Heads, dims, dtype.
        spec: AttentionSpec,
        /// Block sizes that plans are made with: those of the target.
        tiling: Tiling,
        /// The plan's bucket.
        bucket: Bucket,
        /// Pages of the pool.
        pool_pages: usize,
    },
    /// Attention, then the KV write of the same pass: `(q, k, v, kv_pages, meta, slots, first_page) -> (out, kv_pages)`, the
    /// operands of [`attention`](super::attention) and [`kv_write`](super::kv_write). Attention reads the pages as they were.
    /// Donate `kv_pages`, or carry them through a loop: they are written in place, and no copy of the pool is made.
    AttentionWrite {
        /// Heads, dims, dtype.
        spec: AttentionSpec,
        /// Block sizes that plans are made with: those of the target.
        tiling: Tiling,
        /// The plan's bucket.
        bucket: Bucket,
        /// Pages of the pool.
        pool_pages: usize,
    },
    /// KV-page write, see [`kv_write`](super::kv_write).
    KvWrite {
        /// Heads, dims, dtype.
        spec: KvWriteSpec,
        /// Rows of new keys and values, padding included.
        tokens: usize,
        /// Pages of the pool.
        pool_pages: usize,
    },
    /// Label log-probs, see [`label_logprobs`](super::label_logprobs).
    LabelLogprobs {
        /// Dims, labels, dtype.
        spec: LabelLogprobsSpec,
        /// Hidden rows.
        tokens: usize,
        /// Rows to score.
        rows: usize,
    },
    /// Softmax over the labels alone, see [`label_softmax`](super::label_softmax).
    LabelSoftmax {
        /// Dims, labels, dtype.
        spec: LabelLogprobsSpec,
        /// Hidden rows.
        tokens: usize,
        /// Rows to score.
        rows: usize,
    },
}

impl Kernel {
    /// Folder of its texts under `kernels/`.
    pub fn name(&self) -> &'static str {
        match self {
            Kernel::Attention { .. } => "attention",
            Kernel::AttentionWrite { .. } => "attention_write",
            Kernel::KvWrite { .. } => "kv_write",
            Kernel::LabelLogprobs { .. } => "label_logprobs",
            Kernel::LabelSoftmax { .. } => "label_softmax",
        }
    }

    /// Its Mosaic text.
    ///
    /// # Errors
    /// The shape is one that the kernel does not take, or it has a text for each of its parts.
    pub fn mosaic_text(&self, name: &str) -> Result<String, KernelError> {
        match self {
            Kernel::Attention { spec, tiling, bucket, pool_pages } => {
                mosaic::attention_mosaic(name, spec, tiling, bucket, *pool_pages)
            }
            Kernel::AttentionWrite { .. } => Err(KernelError::SeveralTexts { kernel: self.name() }),
            Kernel::KvWrite { spec, tokens, pool_pages } => {
                mosaic::kv_write_mosaic(name, spec, *tokens, *pool_pages)
            }
            Kernel::LabelLogprobs { spec, tokens, rows } => {
                mosaic::label_logprobs_mosaic(name, spec, *tokens, *rows, LabelOutput::Logprobs)
            }
            Kernel::LabelSoftmax { spec, tokens, rows } => {
                mosaic::label_softmax_mosaic(name, spec, *tokens, *rows)
            }
        }
    }
}

/// All that decides its function besides the target, in one line: equal lines, equal shapes.
impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Kernel::Attention { spec, tiling, bucket, pool_pages }
            | Kernel::AttentionWrite { spec, tiling, bucket, pool_pages } => {
                write!(f, " q_heads={} kv_heads={}", spec.q_heads(), spec.kv_heads())?;
                pages(f, spec.head_dim(), spec.page_size(), spec.dtype())?;
                write!(f, " scale={:?}", spec.scale())?;
                if let Some(cap) = spec.soft_cap() {
                    write!(f, " soft_cap={cap:?}")?;
                }
                if let Some(window) = spec.sliding_window() {
                    write!(f, " window={window}")?;
                }
                let (q, kv, own) = (bucket.q_tile, tiling.kv_tile(), tiling.own_tile());
                write!(f, " tiles={q}/{kv}/{own} tokens={}", bucket.tokens)?;
                if tiling.row_block() != q {
                    write!(f, " row_block={}", tiling.row_block())?;
                }
                if tiling.scales_scores() {
                    f.write_str(" scaled_scores")?;
                }
                write!(f, " meta_words={} key_slots={}", bucket.meta_words, bucket.key_slots)?;
                write!(f, " pool_pages={pool_pages}")
            }
            Kernel::KvWrite { spec, tokens, pool_pages } => {
                write!(f, " kv_heads={}", spec.kv_heads())?;
                pages(f, spec.head_dim(), spec.page_size(), spec.dtype())?;
                write!(f, " tokens={tokens} pool_pages={pool_pages}")
            }
            Kernel::LabelLogprobs { spec, tokens, rows } | Kernel::LabelSoftmax { spec, tokens, rows } => {
                let kind = if matches!(spec.labels(), LabelSet::PerRow(_)) { " per_row" } else { "" };
                write!(f, " hidden={} vocab={}", spec.hidden(), spec.vocab())?;
                write!(f, " labels={}{kind} dtype={}", spec.labels().len(), spec.dtype())?;
                write!(f, " tokens={tokens} rows={rows}")
            }
        }
    }
}

fn pages(f: &mut fmt::Formatter<'_>, head_dim: usize, page_size: usize, dtype: DType) -> fmt::Result {
    write!(f, " head_dim={head_dim} page_size={page_size} dtype={dtype}")
}

/// The function that a target runs for a kernel, under the MLIR symbol `name`.
///
/// On [`Target::Tpu`] it calls the Mosaic text. Both have the same results and the same parameters, except that the
/// KV write takes [`KvSlots::chunk_table`](crate::batch::KvSlots::chunk_table) on TPU and
/// [`KvSlots::words`](crate::batch::KvSlots::words) elsewhere: [`Function::inputs`] says what it is.
/// [`Target::tiling`] gives the block sizes that a target's attention takes plans of.
///
/// # Errors
/// The shape is one that the target's kernel does not take, or the name is no MLIR symbol of letters, digits and
/// underscores, `main`, or that of a function within the Mosaic text.
pub fn stablehlo_function(name: &str, kernel: &Kernel, target: Target) -> Result<Function, KernelError> {
    check_name(name)?;
    match (kernel, target) {
        (Kernel::Attention { spec, tiling, bucket, pool_pages }, Target::Portable) => {
            portable::attention(name, spec, tiling, bucket, *pool_pages)
        }
        (Kernel::Attention { spec, tiling, bucket, pool_pages }, Target::Tpu) => {
            mosaic::attention_tpu(name, spec, tiling, bucket, *pool_pages)
        }
        (Kernel::AttentionWrite { spec, tiling, bucket, pool_pages }, _) => {
            let (spec, tiling, bucket, pool_pages) = (spec.clone(), *tiling, *bucket, *pool_pages);
            let kv_write = Kernel::KvWrite { spec: (&spec).into(), tokens: bucket.tokens, pool_pages };
            let attention = Kernel::Attention { spec, tiling, bucket, pool_pages };
            let [attention_name, kv_write_name] = attention_write::inner_names(name);
            attention_write::attention_write(
                name,
                &stablehlo_function(&attention_name, &attention, target)?,
                &stablehlo_function(&kv_write_name, &kv_write, target)?,
            )
        }
        (Kernel::KvWrite { spec, tokens, pool_pages }, Target::Portable) => {
            portable::kv_write(name, spec, *tokens, *pool_pages)
        }
        (Kernel::KvWrite { spec, tokens, pool_pages }, Target::Tpu) => {
            mosaic::kv_write_tpu(name, spec, *tokens, *pool_pages)
        }
        (Kernel::LabelLogprobs { spec, tokens, rows }, Target::Portable) => {
            portable::label_logprobs(name, spec, *tokens, *rows)
        }
        (Kernel::LabelLogprobs { spec, tokens, rows }, Target::Tpu) => {
            mosaic::label_logprobs_tpu(name, spec, *tokens, *rows)
        }
        (Kernel::LabelSoftmax { spec, tokens, rows }, Target::Portable) => {
            portable::label_softmax(name, spec, *tokens, *rows)
        }
        (Kernel::LabelSoftmax { spec, tokens, rows }, Target::Tpu) => {
            mosaic::label_softmax_tpu(name, spec, *tokens, *rows)
        }
    }
}
