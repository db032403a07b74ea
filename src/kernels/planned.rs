use super::kernel::Kernel;
use super::portable::labels_sizes;
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
    /// Spec and plan differ in `page_size`, the plan leaves out tiles that lie within the spec's `sliding_window`, or
    /// `pool_pages` are fewer than the plan's or no `i32`.
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
        check_pool(spec.page_size(), plan, pool_pages)?;
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
}

fn check_attention(spec: &AttentionSpec, plan: &Plan, pool_pages: usize) -> Result<(), KernelError> {
    check_pool(spec.page_size(), plan, pool_pages)?;
    // A plan of a larger window, or of none, has the tiles of a smaller one; the kernel masks the rest.
    match (plan.sliding_window(), spec.sliding_window()) {
        (Some(plan), spec) if spec.is_none_or(|spec| plan < spec) => Err(KernelError::OtherSpec {
            field: "sliding_window",
            plan: plan as usize,
            spec: spec.map(|spec| spec as usize),
        }),
        _ => Ok(()),
    }
}

fn check_pool(page_size: usize, plan: &Plan, pool_pages: usize) -> Result<(), KernelError> {
    if plan.page_size() != page_size {
        let (plan, spec) = (plan.page_size(), Some(page_size));
        return Err(KernelError::OtherSpec { field: "page_size", plan, spec });
    }
    if pool_pages < plan.pool_pages() {
        return Err(KernelError::SmallPool { pool_pages, plan_pool_pages: plan.pool_pages() });
    }
    sizes::within("pool_pages", pool_pages, 0, sizes::MOST)
}
