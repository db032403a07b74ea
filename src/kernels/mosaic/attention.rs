use super::super::function::Function;
use super::super::portable::{attention_context, attention_types, takes};
use super::super::target::Target;
use super::super::{KernelError, render};
use super::{SMEM_LIMIT, VMEM_LIMIT, encoded, text};
use crate::batch::{Bucket, Tiling, layout};
use crate::spec::AttentionSpec;

/// Mosaic text of ragged paged attention, for plans of a [`Tiling::Tpu`]; its header says what operands
/// it takes.
pub fn attention_mosaic(
    name: &str,
    spec: &AttentionSpec,
    tiling: &Tiling,
    bucket: &Bucket,
    pool_pages: usize,
) -> Result<String, KernelError> {
    let context = context(name, spec, tiling, bucket, pool_pages)?;
    text("attention", name, render::attention_mosaic(&context))
}

/// Ragged paged attention for TPU as a StableHLO function: signature of [`attention`](super::super::attention), plans
/// of a [`Tiling::Tpu`].
pub fn attention_tpu(
    name: &str,
    spec: &AttentionSpec,
    tiling: &Tiling,
    bucket: &Bucket,
    pool_pages: usize,
) -> Result<Function, KernelError> {
    let context = context(name, spec, tiling, bucket, pool_pages)?;
    let text = text("attention", name, render::attention_mosaic(&context))?;
    let rendered = render::attention_tpu(&context, &encoded(&text), VMEM_LIMIT);
    let (inputs, outputs) = attention_types(spec, bucket, pool_pages);
    Function::new("attention", name, rendered, inputs, outputs, None)
}

fn context<'a>(
    name: &'a str,
    spec: &AttentionSpec,
    tiling: &Tiling,
    bucket: &Bucket,
    pool_pages: usize,
) -> Result<render::AttentionContext<'a>, KernelError> {
    let shape = |field, value, bound| Err(KernelError::Shape { field, value, bound });
    takes("TPU attention", tiling, Target::Tpu)?;
    let context = attention_context(name, spec, tiling, bucket, pool_pages)?;
    if bucket.key_slots < tiling.kv_tile() {
        let bound = format!("that of a TPU plan, at least kv_tile ({})", tiling.kv_tile());
        return shape("bucket.key_slots", bucket.key_slots, bound);
    }
    let rows = tiling.row_block() * spec.group_size();
    if !rows.is_multiple_of(128) {
        let bound = "a multiple of 128, for query rows lie on lanes".to_owned();
        let field = if tiling.many_blocks() { "row_block x group" } else { "q_tile x group" };
        return shape(field, rows, bound);
    }
    // Row sections lie in device memory; header and tables in scalar memory.
    let most = layout::ROW_SECTIONS * bucket.tokens + SMEM_LIMIT / 4;
    if bucket.meta_words > most {
        let bound = format!(
            "at most {most} with {} tokens, for header and tables lie in scalar memory; \
             Planner::with_max_meta_words refuses such batches",
            bucket.tokens
        );
        return shape("bucket.meta_words", bucket.meta_words, bound);
    }
    Ok(context)
}
