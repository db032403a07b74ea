//! Template to text. Shared by the library and by build.rs.

use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::layout;
use super::params;

const TEMPLATES: [(&str, &str); 4] = [
    ("attention", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/attention/stablehlo.mlir"))),
    ("kv_write", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/kv_write/stablehlo.mlir"))),
    (
        "label_logprobs",
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/label_logprobs/stablehlo.mlir")),
    ),
    (
        "label_softmax",
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/label_softmax/stablehlo.mlir")),
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
    pub pool_pages: usize,
    pub meta_words: usize,
}

/// Everything `kv_write/stablehlo.mlir` refers to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct KvWriteContext<'a> {
    pub name: &'a str,
    #[serde(flatten)]
    pub params: params::KvWrite,
    pub tokens: usize,
    pub pool_pages: usize,
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

/// What attention derives from its parameters, and the planner's word layout.
#[derive(Serialize)]
struct AttentionFull<'a> {
    #[serde(flatten)]
    given: &'a AttentionContext<'a>,
    group: usize,
    header: usize,
    word_num_q_tiles: usize,
    word_tile_offsets: usize,
    word_tiles: usize,
    word_pages: usize,
    word_slots: usize,
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
    tile_key_base: usize,
    kind_pages: i32,
    kind_slots: i32,
}

pub(crate) fn attention(context: &AttentionContext<'_>) -> Result<String, minijinja::Error> {
    let full = AttentionFull {
        given: context,
        group: context.params.q_heads / context.params.kv_heads,
        header: layout::HEADER,
        word_num_q_tiles: layout::NUM_Q_TILES,
        word_tile_offsets: layout::TILE_OFFSETS,
        word_tiles: layout::TILES,
        word_pages: layout::PAGES,
        word_slots: layout::SLOTS,
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
        tile_key_base: layout::TILE_KEY_BASE,
        kind_pages: layout::KIND_PAGES,
        kind_slots: layout::KIND_SLOTS,
    };
    render("attention", full)
}

pub(crate) fn kv_write(context: &KvWriteContext<'_>) -> Result<String, minijinja::Error> {
    render("kv_write", context)
}

pub(crate) fn label_logprobs(context: &LabelsContext<'_>) -> Result<String, minijinja::Error> {
    render("label_logprobs", context)
}

pub(crate) fn label_softmax(context: &LabelsContext<'_>) -> Result<String, minijinja::Error> {
    render("label_softmax", context)
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
