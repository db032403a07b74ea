use super::kernel::Kernel;
use super::portable::labels_sizes;
use super::target::Target;
use super::{KernelError, sizes};
use crate::batch::Plan;
use crate::spec::{AttentionSpec, KvWriteSpec, LabelLogprobsSpec};

/// Kernels for passes of a plan's shape. `pool_pages` are those of the pool that they run on: the plan's, or more where the
/// layers of a model lie behind each other in one pool.
///
/// Which target's a plan is, [`stablehlo_function`](super::stablehlo_function) checks.
impl Kernel {
    /// [`Kernel::Attention`] for a plan.
    ///
    /// # Errors
    /// Spec and plan differ in `page_size` or `sliding_window`, or `pool_pages` are fewer than the plan's or no `i32`.
    pub fn attention(spec: &AttentionSpec, plan: &Plan, pool_pages: usize) -> Result<Self, KernelError> {
        check_attention(spec, plan, pool_pages)?;
        let (spec, tiling, bucket) = (spec.clone(), plan.tiling(), plan.bucket());
        Ok(Kernel::Attention { spec, tiling, bucket, pool_pages })
    }

    /// [`Kernel::AttentionWrite`] for a plan.
    ///
    /// # Errors
    /// As for [`Kernel::attention`].
    pub fn attention_write(
        spec: &AttentionSpec,
        plan: &Plan,
        pool_pages: usize,
    ) -> Result<Self, KernelError> {
        check_attention(spec, plan, pool_pages)?;
        let (spec, tiling, bucket) = (spec.clone(), plan.tiling(), plan.bucket());
        Ok(Kernel::AttentionWrite { spec, tiling, bucket, pool_pages })
    }

    /// [`Kernel::KvWrite`] for the rows of a plan.
    ///
    /// # Errors
    /// Spec and plan differ in `page_size`, or `pool_pages` are fewer than the plan's.
    pub fn kv_write(spec: &KvWriteSpec, plan: &Plan, pool_pages: usize) -> Result<Self, KernelError> {
        same("page_size", plan.page_size(), spec.page_size())?;
        check_pool(plan, pool_pages)?;
        Ok(Kernel::KvWrite { spec: spec.clone(), tokens: plan.bucket().tokens, pool_pages })
    }

    /// [`Kernel::LabelLogprobs`] of `rows` among `tokens` hidden rows, those of a plan's bucket.
    ///
    /// # Errors
    /// `tokens` or `rows` is 0 or no `i32`, or a tensor has more bytes than an `i64` counts.
    pub fn label_logprobs(spec: &LabelLogprobsSpec, tokens: usize, rows: usize) -> Result<Self, KernelError> {
        labels_sizes(spec, tokens, rows)?;
        Ok(Kernel::LabelLogprobs { spec: spec.clone(), tokens, rows })
    }

    /// [`Kernel::LabelSoftmax`] of `rows` among `tokens` hidden rows, those of a plan's bucket.
    ///
    /// # Errors
    /// As for [`Kernel::label_logprobs`].
    pub fn label_softmax(spec: &LabelLogprobsSpec, tokens: usize, rows: usize) -> Result<Self, KernelError> {
        labels_sizes(spec, tokens, rows)?;
        Ok(Kernel::LabelSoftmax { spec: spec.clone(), tokens, rows })
    }

    /// Checks that a plan's pass may run on this kernel, for engines that keep kernels for passes to come: whatever it refuses
    /// would give NaN, or write nothing.
    ///
    /// # Errors
    /// The plan is of another target, block size, bucket, page size or window, or its pages may lie outside the kernel's pool.
    pub fn takes(&self, plan: &Plan) -> Result<(), KernelError> {
        match self {
            Kernel::Attention { spec, tiling, bucket, pool_pages }
            | Kernel::AttentionWrite { spec, tiling, bucket, pool_pages } => {
                let (planned, fits) = (plan.tiling(), plan.bucket());
                let (target, expected) = (Target::of(&planned), Target::of(tiling));
                if target != expected {
                    return Err(KernelError::TilingTarget { kernel: self.name(), tiling: target, expected });
                }
                same("q_tile", fits.q_tile, bucket.q_tile)?;
                same("kv_tile", planned.kv_tile(), tiling.kv_tile())?;
                same("own_tile", planned.own_tile(), tiling.own_tile())?;
                if target == Target::Tpu {
                    same("row_block", planned.row_block(), tiling.row_block())?;
                }
                same("bucket.tokens", fits.tokens, bucket.tokens)?;
                same("bucket.meta_words", fits.meta_words, bucket.meta_words)?;
                same("bucket.key_slots", fits.key_slots, bucket.key_slots)?;
                if plan.reads_pages() || matches!(self, Kernel::AttentionWrite { .. }) {
                    return check_attention(spec, plan, *pool_pages);
                }
                check_attention(spec, plan, plan.pool_pages())
            }
            Kernel::KvWrite { spec, tokens, pool_pages } => {
                same("page_size", plan.page_size(), spec.page_size())?;
                same("bucket.tokens", plan.bucket().tokens, *tokens)?;
                check_pool(plan, *pool_pages)
            }
            Kernel::LabelLogprobs { tokens, .. } | Kernel::LabelSoftmax { tokens, .. } => {
                same("bucket.tokens", plan.bucket().tokens, *tokens)
            }
        }
    }
}

fn check_attention(spec: &AttentionSpec, plan: &Plan, pool_pages: usize) -> Result<(), KernelError> {
    same("page_size", plan.page_size(), spec.page_size())?;
    let window = |window: Option<u32>| window.map(|window| window as usize);
    same("sliding_window", window(plan.sliding_window()), window(spec.sliding_window()))?;
    check_pool(plan, pool_pages)
}

fn check_pool(plan: &Plan, pool_pages: usize) -> Result<(), KernelError> {
    if pool_pages < plan.pool_pages() {
        return Err(KernelError::SmallPool { pool_pages, plan_pool_pages: plan.pool_pages() });
    }
    sizes::within("pool_pages", pool_pages, 0, sizes::MOST)
}

fn same(
    field: &'static str,
    plan: impl Into<Option<usize>>,
    kernel: impl Into<Option<usize>>,
) -> Result<(), KernelError> {
    let (plan, kernel) = (plan.into(), kernel.into());
    if plan == kernel { Ok(()) } else { Err(KernelError::OtherPlan { field, plan, kernel }) }
}
