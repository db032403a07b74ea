use super::{Kernel, KernelError, Target, TpuKind, WorkloadClass, sizes, tuned_tiling};
use crate::batch::{BatchError, Bucket, Group, Planner, Tiling};
use crate::spec::{AttentionSpec, KvWriteSpec, LabelLogprobsSpec};

/// A variant that a manifest declares; build.rs has rendered and verified it.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Kernel and variant, as in `attention/smollm2`.
    pub id: &'static str,
    /// What it is made for.
    pub shape: VariantShape,
    /// The batch whose bucket it is checked in, and compiled for ahead of time.
    pub workload: Workload,
    /// Whether its Mosaic form is declared too.
    pub mosaic: bool,
}

/// Static shape of a declared variant.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum VariantShape {
    /// Ragged paged attention.
    Attention(AttentionSpec),
    /// KV-page write.
    KvWrite(KvWriteSpec),
    /// Label log-probs.
    LabelLogprobs(LabelLogprobsSpec),
    /// Softmax over labels.
    LabelSoftmax(LabelLogprobsSpec),
}

/// A scoring pass: a query as lead, and items of equal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Tokens of the query.
    pub query: usize,
    /// Items, each of them a row to score.
    pub items: usize,
    /// Tokens of an item.
    pub item_tokens: usize,
    /// Pages of the KV pool.
    pub pool_pages: usize,
}

/// A batch that every kernel compiles for in seconds.
impl Default for Workload {
    fn default() -> Self {
        Workload { query: 300, items: 10, item_tokens: 20, pool_pages: 64 }
    }
}

impl Workload {
    /// The bucket of the batch under a tiling.
    fn bucket(
        &self,
        page_size: usize,
        tiling: Tiling,
        sliding_window: Option<u32>,
    ) -> Result<Bucket, KernelError> {
        for (field, value) in
            [("query", self.query), ("items", self.items), ("item_tokens", self.item_tokens)]
        {
            sizes::within(field, value, 0, Planner::MAX_TOKENS)?;
        }
        let tokens = self.query + self.items * self.item_tokens;
        sizes::within("query + items x item_tokens", tokens, 1, Planner::MAX_TOKENS)?;
        let ends = (0..=self.items).map(|i| self.query + i * self.item_tokens);
        let offsets: Vec<i32> = [0].into_iter().chain(ends.map(|end| end as i32)).collect();
        let group = Group { cu_seg_lens: &offsets, lead: true, ..Group::default() };
        let mut planner =
            Planner::new(page_size, self.pool_pages, tiling)?.with_sliding_window(sliding_window);
        Ok(planner.plan(tokens, &[group])?.bucket())
    }
}

impl Variant {
    /// The kernel in the bucket of its workload, with a target's block sizes.
    ///
    /// # Errors
    /// The workload is no batch.
    pub fn kernel(&self, target: Target) -> Result<Kernel, KernelError> {
        self.with_tiling(target, |spec| target.tiling(spec.page_size()))
    }

    /// The kernel in the bucket of its workload, with the block sizes that [`tuned_tiling`] gives scoring on a kind of
    /// TPU: what is compiled ahead of time.
    ///
    /// # Errors
    /// As for [`Variant::kernel`].
    pub fn tpu_kernel(&self, device: TpuKind) -> Result<Kernel, KernelError> {
        self.with_tiling(Target::Tpu, |spec| Ok(tuned_tiling(device, spec, WorkloadClass::Packed)?.tiling()))
    }

    fn with_tiling(
        &self,
        target: Target,
        tiling: impl Fn(&AttentionSpec) -> Result<Tiling, BatchError>,
    ) -> Result<Kernel, KernelError> {
        let workload = &self.workload;
        let (pool_pages, rows) = (workload.pool_pages, workload.items);
        let tokens = |page_size| {
            Ok::<_, KernelError>(workload.bucket(page_size, target.tiling(page_size)?, None)?.tokens)
        };
        Ok(match self.shape.clone() {
            VariantShape::Attention(spec) => {
                let tiling = tiling(&spec)?;
                let bucket = workload.bucket(spec.page_size(), tiling, spec.sliding_window())?;
                Kernel::Attention { spec, tiling, bucket, pool_pages }
            }
            VariantShape::KvWrite(spec) => {
                Kernel::KvWrite { tokens: tokens(spec.page_size())?, spec, pool_pages }
            }
            VariantShape::LabelLogprobs(spec) => Kernel::LabelLogprobs { spec, tokens: tokens(16)?, rows },
            VariantShape::LabelSoftmax(spec) => Kernel::LabelSoftmax { spec, tokens: tokens(16)?, rows },
        })
    }
}
