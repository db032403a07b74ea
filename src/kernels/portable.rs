//! The portable kernels: StableHLO for any PJRT backend.

use super::function::Function;
use super::tables::BLOCKS;
use super::target::Target;
use super::tensor_type::TensorType;
use super::{KernelError, params, render, sizes};
use crate::batch::{Bucket, Tiling, identity, layout, slots_identity};
use crate::spec::{AttentionSpec, DType, KvWriteSpec, LabelLogprobsSpec, LabelSet};

/// Ragged paged attention over a bucket: `(q, k, v, kv_pages, meta, first_page) -> out`.
///
/// `q [T, q_heads, head_dim]`, `k`, `v [T, kv_heads, head_dim]`,
/// `kv_pages [pool_pages, 2, kv_heads, page_size, head_dim]` of the spec's dtype,
/// `meta [meta_words]` i32 from [`Plan::meta`](crate::batch::Plan::meta); `out` like `q`.
/// `first_page []` i32 is the page of the pool from which the plan's pages count: 0, or where a layer's pages start in a
/// pool of several layers. A plan of another tiling, bucket, page size or window, or whose pool does not lie within this one,
/// gives NaN in every row.
///
/// Padding rows, those that hold no token of the plan, are zeros. Arithmetic is f32; for bf16 the result
/// is rounded once. Temporary memory is O(T).
///
/// `tiling` is the one the plan was made with, `bucket` the plan's.
pub fn attention(
    name: &str,
    spec: &AttentionSpec,
    tiling: &Tiling,
    bucket: &Bucket,
    pool_pages: usize,
) -> Result<Function, KernelError> {
    takes("portable attention", tiling, Target::Portable)?;
    let context = attention_context(name, spec, tiling, bucket, pool_pages)?;
    let (inputs, outputs) = attention_types(spec, bucket, pool_pages);
    Function::new("attention", name, render::attention(&context), inputs, outputs, None)
}

/// The KV-page write: `(k, v, kv_pages, slots, first_page) -> kv_pages`.
///
/// `k`, `v [tokens, kv_heads, head_dim]`, `kv_pages [pool_pages, 2, kv_heads, page_size, head_dim]`,
/// `slots [1 + tokens]` i32 from [`KvSlots::words`](crate::batch::KvSlots::words), counted from page `first_page []` i32 of the
/// pool. Everything outside the slots keeps its bits. If one of them lies outside the pool, or they are those of another page
/// size, nothing is written.
/// Donate `kv_pages` to write in place.
pub fn kv_write(
    name: &str,
    spec: &KvWriteSpec,
    tokens: usize,
    pool_pages: usize,
) -> Result<Function, KernelError> {
    let context = kv_write_context(name, spec, tokens, pool_pages, false)?;
    let (inputs, outputs) = kv_write_types(spec, tokens, pool_pages, 1 + tokens);
    Function::new("kv_write", name, render::kv_write(&context), inputs, outputs, Some((2, 0)))
}

/// What KV-write texts of every target refer to.
pub(super) fn kv_write_context<'a>(
    name: &'a str,
    spec: &KvWriteSpec,
    tokens: usize,
    pool_pages: usize,
    tpu: bool,
) -> Result<render::KvWriteContext<'a>, KernelError> {
    sizes::size("tokens", tokens)?;
    sizes::size("pool_pages", pool_pages)?;
    let (dtype, row) = (spec.dtype(), [spec.kv_heads(), spec.head_dim()]);
    sizes::tensor("k and v", dtype, &[tokens, 2, row[0], row[1]])?;
    sizes::tensor("kv_pages", dtype, &[pool_pages, 2, row[0], spec.page_size(), row[1]])?;
    let params = params::KvWrite {
        kv_heads: spec.kv_heads(),
        head_dim: spec.head_dim(),
        page_size: spec.page_size(),
        dtype: spec.dtype().mlir().to_owned(),
    };
    let identity = slots_identity(tpu, spec.page_size(), tokens);
    Ok(render::KvWriteContext { name, params, tokens, pool_pages, identity })
}

/// Parameter and result types of a KV write whose slots take `words` words.
pub(super) fn kv_write_types(
    spec: &KvWriteSpec,
    tokens: usize,
    pool_pages: usize,
    words: usize,
) -> (Vec<TensorType>, Vec<TensorType>) {
    let kv = TensorType::new(spec.dtype(), &[tokens, spec.kv_heads(), spec.head_dim()]);
    let pages = pages_type(pool_pages, spec.kv_heads(), spec.page_size(), spec.head_dim(), spec.dtype());
    let slots = TensorType::new(DType::I32, &[words]);
    (vec![kv.clone(), kv, pages.clone(), slots, first_page_type()], vec![pages])
}

/// A scalar: the page of the pool from which a plan's pages count.
fn first_page_type() -> TensorType {
    TensorType::new(DType::I32, &[])
}

/// Label log-probs from hidden states: `(hidden, lm_head, rows, labels) -> [rows, labels]` f32.
///
/// `hidden [tokens, hidden]`, `lm_head [vocab, hidden]`, `rows [rows]` i32 indices of hidden rows,
/// `labels` i32 `[n]` or `[rows, n]` as the spec says. Ids must be in range: check them with the request.
/// The largest temporary is `rows x` the vocabulary block.
pub fn label_logprobs(
    name: &str,
    spec: &LabelLogprobsSpec,
    tokens: usize,
    rows: usize,
) -> Result<Function, KernelError> {
    labels_function("label_logprobs", name, spec, tokens, rows, render::label_logprobs)
}

/// Softmax over the labels alone, same inputs as [`label_logprobs`]: `-> [rows, labels]` f32.
/// Reads only the label rows of the LM head.
pub fn label_softmax(
    name: &str,
    spec: &LabelLogprobsSpec,
    tokens: usize,
    rows: usize,
) -> Result<Function, KernelError> {
    labels_function("label_softmax", name, spec, tokens, rows, render::label_softmax)
}

fn labels_function(
    kernel: &'static str,
    name: &str,
    spec: &LabelLogprobsSpec,
    tokens: usize,
    rows: usize,
    render: impl Fn(&render::LabelsContext<'_>) -> Result<String, minijinja::Error>,
) -> Result<Function, KernelError> {
    let vocab_block = BLOCKS.vocab_block.min(spec.vocab());
    let context = labels_context(name, spec, tokens, rows, vocab_block)?;
    let outputs = vec![TensorType::new(DType::F32, &[rows, spec.labels().len()])];
    Function::new(kernel, name, render(&context), labels_inputs(spec, tokens, rows), outputs, None)
}

/// What label texts of every target refer to.
pub(super) fn labels_context<'a>(
    name: &'a str,
    spec: &LabelLogprobsSpec,
    tokens: usize,
    rows: usize,
    vocab_block: usize,
) -> Result<render::LabelsContext<'a>, KernelError> {
    labels_sizes(spec, tokens, rows)?;
    let params = params::Labels {
        hidden: spec.hidden(),
        vocab: spec.vocab(),
        labels: spec.labels().len(),
        per_row: matches!(spec.labels(), LabelSet::PerRow(_)),
        dtype: spec.dtype().mlir().to_owned(),
    };
    Ok(render::LabelsContext { name, params, tokens, rows, vocab_block })
}

/// Refuses a number of hidden rows, or of those to score, that no label kernel takes.
pub(super) fn labels_sizes(spec: &LabelLogprobsSpec, tokens: usize, rows: usize) -> Result<(), KernelError> {
    sizes::size("tokens", tokens)?;
    sizes::size("rows", rows)?;
    let (hidden, labels) = (spec.hidden(), spec.labels().len());
    sizes::tensor("hidden", spec.dtype(), &[tokens, hidden])?;
    sizes::tensor("lm_head", spec.dtype(), &[spec.vocab(), hidden])?;
    sizes::tensor("rows of hidden", DType::F32, &[rows, hidden])?;
    sizes::tensor("logits of a vocabulary block", DType::F32, &[rows, BLOCKS.vocab_block])?;
    let lists = if matches!(spec.labels(), LabelSet::PerRow(_)) { rows } else { 1 };
    sizes::tensor("rows of the labels", DType::F32, &[lists, labels, hidden])?;
    sizes::tensor("the result", DType::F32, &[rows, labels, 2])
}

/// Parameter types of label kernels, for every target.
pub(super) fn labels_inputs(spec: &LabelLogprobsSpec, tokens: usize, rows: usize) -> Vec<TensorType> {
    let labels = spec.labels().len();
    let ids: &[usize] =
        if matches!(spec.labels(), LabelSet::PerRow(_)) { &[rows, labels] } else { &[labels] };
    vec![
        TensorType::new(spec.dtype(), &[tokens, spec.hidden()]),
        TensorType::new(spec.dtype(), &[spec.vocab(), spec.hidden()]),
        TensorType::new(DType::I32, &[rows]),
        TensorType::new(DType::I32, ids),
    ]
}

fn pages_type(
    pool_pages: usize,
    kv_heads: usize,
    page_size: usize,
    head_dim: usize,
    dtype: DType,
) -> TensorType {
    TensorType::new(dtype, &[pool_pages, 2, kv_heads, page_size, head_dim])
}

fn shape(field: &'static str, value: usize, bound: String) -> KernelError {
    KernelError::Shape { field, value, bound }
}

/// Refuses a tiling that is for another target than a kernel.
pub(super) fn takes(kernel: &'static str, tiling: &Tiling, expected: Target) -> Result<(), KernelError> {
    let target = Target::of(tiling);
    if target == expected {
        return Ok(());
    }
    Err(KernelError::TilingTarget { kernel, tiling: target, expected })
}

/// What attention texts of every target refer to, with what they all ask of tiling and bucket.
pub(super) fn attention_context<'a>(
    name: &'a str,
    spec: &AttentionSpec,
    tiling: &Tiling,
    bucket: &Bucket,
    pool_pages: usize,
) -> Result<render::AttentionContext<'a>, KernelError> {
    sizes::size("pool_pages", pool_pages)?;
    sizes::bucket(bucket)?;
    if !tiling.kv_tile().is_multiple_of(spec.page_size()) {
        let bound = format!("a multiple of page_size ({})", spec.page_size());
        return Err(shape("kv_tile", tiling.kv_tile(), bound));
    }
    let (q_tile, most) = (bucket.q_tile, tiling.q_tile());
    if !q_tile.is_power_of_two() || q_tile > most || (tiling.is_tpu() && q_tile < most) {
        let bound =
            if tiling.is_tpu() { "that of the tiling" } else { "a power of two, at most that of the tiling" };
        return Err(shape("bucket.q_tile", q_tile, format!("{bound} ({most})")));
    }
    let (dtype, dim, pool) =
        (spec.dtype(), spec.head_dim(), [pool_pages, 2, spec.kv_heads(), spec.page_size()]);
    sizes::tensor("q", DType::F32, &[bucket.tokens, spec.q_heads(), dim])?;
    sizes::tensor("kv_pages", dtype, &[pool[0], pool[1], pool[2], pool[3], dim])?;
    sizes::tensor("the slots of new keys and values", dtype, &[bucket.key_slots, 2, spec.kv_heads(), dim])?;
    let rows = layout::HEADER + layout::ROW_SECTIONS * bucket.tokens;
    let least = rows + (tiling.kv_tile() / spec.page_size()).max(tiling.own_tile()).max(layout::TILE_WORDS);
    if bucket.meta_words < least {
        return Err(shape("bucket.meta_words", bucket.meta_words, format!("at least {least}")));
    }
    Ok(render::AttentionContext {
        name,
        params: params::Attention {
            q_heads: spec.q_heads(),
            kv_heads: spec.kv_heads(),
            head_dim: spec.head_dim(),
            page_size: spec.page_size(),
            dtype: spec.dtype().mlir().to_owned(),
            scale: Some(spec.scale()),
            soft_cap: spec.soft_cap(),
            window: spec.sliding_window(),
        },
        tokens: bucket.tokens,
        q_tile: bucket.q_tile,
        kv_tile: tiling.kv_tile(),
        own_tile: tiling.own_tile(),
        row_block: tiling.row_block(),
        scaled_scores: tiling.scales_scores(),
        pool_pages,
        meta_words: bucket.meta_words,
        key_slots: bucket.key_slots,
        identity: identity(tiling, bucket, spec.page_size(), spec.sliding_window()),
    })
}

/// Parameter and result types of attention, for every target.
pub(super) fn attention_types(
    spec: &AttentionSpec,
    bucket: &Bucket,
    pool_pages: usize,
) -> (Vec<TensorType>, Vec<TensorType>) {
    let dtype = spec.dtype();
    let q = TensorType::new(dtype, &[bucket.tokens, spec.q_heads(), spec.head_dim()]);
    let kv = TensorType::new(dtype, &[bucket.tokens, spec.kv_heads(), spec.head_dim()]);
    let inputs = vec![
        q.clone(),
        kv.clone(),
        kv,
        pages_type(pool_pages, spec.kv_heads(), spec.page_size(), spec.head_dim(), dtype),
        TensorType::new(DType::I32, &[bucket.meta_words]),
        first_page_type(),
    ];
    (inputs, vec![q])
}
