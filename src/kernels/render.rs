//! Template to text. Shared by the library and by build.rs.

use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::params;
use crate::batch::{TpuTiling, layout};

const TEMPLATES: [(&str, &str); 14] = [
    ("attention", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/attention/stablehlo.mlir"))),
    ("attention_mosaic", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/attention/mosaic.mlir"))),
    ("attention_tpu", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/attention/tpu.mlir"))),
    (
        "attention_write",
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/attention_write/stablehlo.mlir")),
    ),
    ("positions", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/positions/stablehlo.mlir"))),
    ("kv_write", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/kv_write/stablehlo.mlir"))),
    ("kv_write_mosaic", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/kv_write/mosaic.mlir"))),
    ("kv_write_tpu", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/kv_write/tpu.mlir"))),
    (
        "label_logprobs",
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/label_logprobs/stablehlo.mlir")),
    ),
    (
        "label_logprobs_mosaic",
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/label_logprobs/mosaic.mlir")),
    ),
    (
        "label_logprobs_tpu",
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/label_logprobs/tpu.mlir")),
    ),
    (
        "label_softmax",
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/label_softmax/stablehlo.mlir")),
    ),
    (
        "label_softmax_mosaic",
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/label_softmax/mosaic.mlir")),
    ),
    (
        "label_softmax_tpu",
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/label_softmax/tpu.mlir")),
    ),
];

/// Everything `attention/stablehlo.mlir` refers to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AttentionContext<'a> {
    pub name: &'a str,
    #[serde(flatten)]
    pub params: params::Attention,
    pub tokens: usize,
    pub q_tile: usize,
    pub kv_tile: usize,
    pub own_tile: usize,
    pub row_block: usize,
    pub scaled_scores: bool,
    pub pool_pages: usize,
    pub meta_words: usize,
    pub key_slots: usize,
    /// The identity word of its plans.
    pub identity: i32,
}

/// Everything `kv_write/stablehlo.mlir` refers to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct KvWriteContext<'a> {
    pub name: &'a str,
    #[serde(flatten)]
    pub params: params::KvWrite,
    pub tokens: usize,
    pub pool_pages: usize,
    /// The first word of its slots.
    pub identity: i32,
}

/// Everything `attention_write/stablehlo.mlir` refers to.
#[derive(Serialize)]
pub(crate) struct AttentionWriteContext<'a> {
    pub name: &'a str,
    pub types: AttentionWriteTypes,
    /// Text of the function `<name>_attention`.
    pub attention: &'a str,
    /// Text of the function `<name>_kv_write`.
    pub kv_write: &'a str,
}

/// Its types, as MLIR spells them.
#[derive(Serialize)]
pub(crate) struct AttentionWriteTypes {
    pub q: String,
    pub kv: String,
    pub pages: String,
    pub meta: String,
    pub slots: String,
}

/// Everything the two label templates refer to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LabelsContext<'a> {
    pub name: &'a str,
    #[serde(flatten)]
    pub params: params::Labels,
    pub tokens: usize,
    pub rows: usize,
    pub vocab_block: usize,
}

/// What the Mosaic KV write refers to besides.
#[derive(Serialize)]
pub(crate) struct KvChunksContext<'a> {
    #[serde(flatten)]
    pub given: KvWriteContext<'a>,
    /// Tokens of a chunk.
    pub chunk: usize,
    /// Chunks under way at a time, a power of two.
    pub depth: usize,
    /// Word of the table at which its entries start.
    pub entries: usize,
    pub table_words: usize,
}

/// What the Mosaic label log-probs refer to besides.
#[derive(Serialize)]
pub(crate) struct LabelBlocksContext<'a> {
    #[serde(flatten)]
    pub given: LabelsContext<'a>,
    /// Whole row blocks.
    pub padded_rows: usize,
    pub row_block: usize,
    /// Rows of the label operand and of the result, a multiple of 8.
    pub label_rows: usize,
    /// Whether maximum, sum and logits stay apart.
    pub partial: bool,
}

/// What the Mosaic softmax over labels refers to besides.
#[derive(Serialize)]
pub(crate) struct LabelRowsContext<'a> {
    #[serde(flatten)]
    pub given: LabelsContext<'a>,
    /// Whole row blocks.
    pub padded_rows: usize,
    pub row_block: usize,
    /// Labels of a step.
    pub label_block: usize,
    pub label_steps: usize,
    /// Rows of the result, a multiple of 8.
    pub label_rows: usize,
}

/// What attention derives from its parameters, and the planner's word layout.
#[derive(Serialize)]
struct AttentionFull<'a> {
    #[serde(flatten)]
    given: &'a AttentionContext<'a>,
    group: usize,
    header: usize,
    row_sections: usize,
    table_words: usize,
    run_align: usize,
    word_num_q_tiles: usize,
    word_tile_offsets: usize,
    word_tiles: usize,
    word_pages: usize,
    word_slots: usize,
    word_steps: usize,
    word_copies: usize,
    word_pool_pages: usize,
    word_identity: usize,
    step_fresh: i32,
    step_copy_shift: i32,
    section_own_start: usize,
    section_own_key: usize,
    section_position: usize,
    tile_words: usize,
    tile_kind: usize,
    tile_start: usize,
    tile_keys: usize,
    tile_whole_lo: usize,
    tile_whole_hi: usize,
    tile_position: usize,
    tile_full: usize,
    tile_key_base: usize,
    kind_pages: i32,
    kind_slots: i32,
}

pub(crate) fn attention(context: &AttentionContext<'_>) -> Result<String, minijinja::Error> {
    render("attention", attention_full(context))
}

/// The Mosaic kernel's text.
pub(crate) fn attention_mosaic(context: &AttentionContext<'_>) -> Result<String, minijinja::Error> {
    render("attention_mosaic", attention_full(context))
}

/// The function around a Mosaic kernel whose text is `body` in base64.
pub(crate) fn attention_tpu(
    context: &AttentionContext<'_>,
    body: &str,
    vmem_limit: usize,
) -> Result<String, minijinja::Error> {
    call("attention_tpu", attention_full(context), body, vmem_limit)
}

/// Renders a function around a Mosaic kernel whose text is `body` in base64.
fn call(
    template: &str,
    context: impl Serialize,
    body: &str,
    vmem_limit: usize,
) -> Result<String, minijinja::Error> {
    #[derive(Serialize)]
    struct Call<'a, C> {
        #[serde(flatten)]
        context: C,
        body: &'a str,
        vmem_limit: usize,
    }
    render(template, Call { context, body, vmem_limit })
}

fn attention_full<'a>(context: &'a AttentionContext<'a>) -> AttentionFull<'a> {
    AttentionFull {
        given: context,
        group: context.params.q_heads / context.params.kv_heads,
        header: layout::HEADER,
        row_sections: layout::ROW_SECTIONS,
        table_words: context
            .meta_words
            .saturating_sub(layout::HEADER + layout::ROW_SECTIONS * context.tokens),
        run_align: TpuTiling::RUN_ALIGN,
        word_num_q_tiles: layout::NUM_Q_TILES,
        word_tile_offsets: layout::TILE_OFFSETS,
        word_tiles: layout::TILES,
        word_pages: layout::PAGES,
        word_slots: layout::SLOTS,
        word_steps: layout::STEPS,
        word_copies: layout::COPIES,
        word_pool_pages: layout::POOL_PAGES,
        word_identity: layout::IDENTITY,
        step_fresh: layout::STEP_FRESH,
        step_copy_shift: layout::STEP_COPY_SHIFT,
        section_own_start: layout::OWN_START,
        section_own_key: layout::OWN_KEY,
        section_position: layout::POSITION,
        tile_words: layout::TILE_WORDS,
        tile_kind: layout::TILE_KIND,
        tile_start: layout::TILE_START,
        tile_keys: layout::TILE_KEYS,
        tile_whole_lo: layout::TILE_WHOLE_LO,
        tile_whole_hi: layout::TILE_WHOLE_HI,
        tile_position: layout::TILE_POSITION,
        tile_full: layout::TILE_FULL,
        tile_key_base: layout::TILE_KEY_BASE,
        kind_pages: layout::KIND_PAGES,
        kind_slots: layout::KIND_SLOTS,
    }
}

pub(crate) fn attention_write(context: &AttentionWriteContext<'_>) -> Result<String, minijinja::Error> {
    render("attention_write", context)
}

/// Positions out of the planner's words of a bucket.
pub(crate) fn positions(name: &str, tokens: usize, meta_words: usize) -> Result<String, minijinja::Error> {
    #[derive(Serialize)]
    struct Context<'a> {
        name: &'a str,
        tokens: usize,
        meta_words: usize,
        header: usize,
        section_position: usize,
    }
    let (header, section_position) = (layout::HEADER, layout::POSITION);
    render("positions", Context { name, tokens, meta_words, header, section_position })
}

pub(crate) fn kv_write(context: &KvWriteContext<'_>) -> Result<String, minijinja::Error> {
    render("kv_write", context)
}

/// The Mosaic kernel's text.
pub(crate) fn kv_write_mosaic(context: &KvChunksContext<'_>) -> Result<String, minijinja::Error> {
    render("kv_write_mosaic", context)
}

/// The function around a Mosaic kernel whose text is `body` in base64.
pub(crate) fn kv_write_tpu(
    context: &KvChunksContext<'_>,
    body: &str,
    vmem_limit: usize,
) -> Result<String, minijinja::Error> {
    call("kv_write_tpu", context, body, vmem_limit)
}

pub(crate) fn label_logprobs(context: &LabelsContext<'_>) -> Result<String, minijinja::Error> {
    render("label_logprobs", context)
}

/// The Mosaic kernel's text.
pub(crate) fn label_logprobs_mosaic(context: &LabelBlocksContext<'_>) -> Result<String, minijinja::Error> {
    render("label_logprobs_mosaic", context)
}

/// The function around a Mosaic kernel whose text is `body` in base64.
pub(crate) fn label_logprobs_tpu(
    context: &LabelBlocksContext<'_>,
    body: &str,
    vmem_limit: usize,
) -> Result<String, minijinja::Error> {
    call("label_logprobs_tpu", context, body, vmem_limit)
}

pub(crate) fn label_softmax(context: &LabelsContext<'_>) -> Result<String, minijinja::Error> {
    render("label_softmax", context)
}

/// The Mosaic kernel's text.
pub(crate) fn label_softmax_mosaic(context: &LabelRowsContext<'_>) -> Result<String, minijinja::Error> {
    render("label_softmax_mosaic", context)
}

/// The function around a Mosaic kernel whose text is `body` in base64.
pub(crate) fn label_softmax_tpu(
    context: &LabelRowsContext<'_>,
    body: &str,
    vmem_limit: usize,
) -> Result<String, minijinja::Error> {
    call("label_softmax_tpu", context, body, vmem_limit)
}

/// Renders one template; a name that the context lacks is an error, never an empty string.
fn render(template: &str, context: impl Serialize) -> Result<String, minijinja::Error> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, source) in TEMPLATES {
        env.add_template(name, source)?;
    }
    env.get_template(template)?.render(context)
}
