use super::super::function::Function;
use super::super::portable::{attention_context, attention_types};
use super::super::{KernelError, render};
use super::{VMEM_LIMIT, encoded, template};
use crate::batch::{Bucket, Tiling};
use crate::spec::AttentionSpec;

/// Mosaic text of ragged paged attention, for [`Tiling::with_aligned_runs`] plans; its header says what operands
/// it takes.
pub fn attention_mosaic(
    name: &str,
    spec: &AttentionSpec,
    tiling: &Tiling,
    bucket: &Bucket,
    pool_pages: usize,
) -> Result<String, KernelError> {
    if bucket.key_slots == 0 {
        return Err(KernelError::Shape {
            field: "bucket.key_slots",
            value: 0,
            bound: "that of a plan with aligned runs".to_owned(),
        });
    }
    let rows = bucket.q_tile * spec.group_size();
    if !rows.is_multiple_of(128) {
        return Err(KernelError::Shape {
            field: "q_tile x group",
            value: rows,
            bound: "a multiple of 128, for query rows lie on lanes".to_owned(),
        });
    }
    let context = attention_context(name, spec, tiling, bucket, pool_pages);
    render::attention_mosaic(&context).map_err(template("attention"))
}

/// Ragged paged attention for TPU as a StableHLO function: signature of [`attention`](super::super::attention), plans
/// made with [`Tiling::with_aligned_runs`].
pub fn attention_tpu(
    name: &str,
    spec: &AttentionSpec,
    tiling: &Tiling,
    bucket: &Bucket,
    pool_pages: usize,
) -> Result<Function, KernelError> {
    let text = attention_mosaic(name, spec, tiling, bucket, pool_pages)?;
    let context = attention_context(name, spec, tiling, bucket, pool_pages);
    let rendered = render::attention_tpu(&context, &encoded(&text), VMEM_LIMIT);
    let (inputs, outputs) = attention_types(spec, bucket, pool_pages);
    Function::new("attention", name, rendered, inputs, outputs, None)
}
