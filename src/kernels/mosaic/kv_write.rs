use super::super::function::Function;
use super::super::portable::{kv_write_context, kv_write_types};
use super::super::{KernelError, render};
use super::{VMEM_LIMIT, encoded, text};
use crate::batch::{CHUNK, chunk_table_words};
use crate::spec::KvWriteSpec;

/// Chunks under way at a time: enough that a copy's latency hides behind the others.
const DEPTH: usize = 4;

/// Bytes of scalar memory that a chunk table may take; every device kind has more.
const TABLE_LIMIT: usize = 512 << 10;

/// Mosaic text of the KV-page write; its header says what operands it takes.
pub fn kv_write_mosaic(
    name: &str,
    spec: &KvWriteSpec,
    tokens: usize,
    pool_pages: usize,
) -> Result<String, KernelError> {
    let context = context(name, spec, tokens, pool_pages)?;
    text("kv_write", name, render::kv_write_mosaic(&context))
}

/// The KV-page write for TPU as a StableHLO function: that of [`kv_write`](super::super::kv_write) with
/// [`KvSlots::chunk_table`](crate::batch::KvSlots::chunk_table) in place of the slots.
pub fn kv_write_tpu(
    name: &str,
    spec: &KvWriteSpec,
    tokens: usize,
    pool_pages: usize,
) -> Result<Function, KernelError> {
    let context = context(name, spec, tokens, pool_pages)?;
    let text = text("kv_write", name, render::kv_write_mosaic(&context))?;
    let rendered = render::kv_write_tpu(&context, &encoded(&text), VMEM_LIMIT);
    let (inputs, outputs) = kv_write_types(spec, tokens, pool_pages, context.table_words);
    Function::new("kv_write", name, rendered, inputs, outputs, Some((2, 0)))
}

fn context<'a>(
    name: &'a str,
    spec: &KvWriteSpec,
    tokens: usize,
    pool_pages: usize,
) -> Result<render::KvChunksContext<'a>, KernelError> {
    let given = kv_write_context(name, spec, tokens, pool_pages, true)?;
    let (table_words, entries) = chunk_table_words(tokens);
    if 4 * table_words > TABLE_LIMIT {
        let most = (TABLE_LIMIT / 4 - chunk_table_words(0).0) / 4;
        let bound = format!("at most {most}, for the chunk table lies in scalar memory");
        return Err(KernelError::Shape { field: "tokens", value: tokens, bound });
    }
    Ok(render::KvChunksContext { given, chunk: CHUNK, depth: DEPTH, entries, table_words })
}
