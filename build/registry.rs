//! Variants as Rust. What Debug prints of a spec's parts is Rust.

use crate::kernels::{Variant, VariantShape, Workload};
use crate::spec::{AttentionSpec, KvWriteSpec, LabelLogprobsSpec};

/// A function that lists them.
pub(crate) fn text(variants: &[Variant]) -> String {
    let list: String = variants.iter().map(line).collect();
    format!(
        "/// Every declared variant.\npub fn variants() -> Result<Vec<Variant>, SpecError> {{\n    Ok(vec![\n{list}    ])\n}}\n"
    )
}

fn line(variant: &Variant) -> String {
    let Variant { id, shape, workload, mosaic } = variant;
    let shape = match shape {
        VariantShape::Attention(spec) => format!("Attention({})", attention(spec)),
        VariantShape::KvWrite(spec) => format!("KvWrite({})", kv_write(spec)),
        VariantShape::LabelLogprobs(spec) => format!("LabelLogprobs({})", labels(spec)),
        VariantShape::LabelSoftmax(spec) => format!("LabelSoftmax({})", labels(spec)),
    };
    let Workload { query, items, item_tokens, pool_pages } = workload;
    format!(
        "        Variant {{ id: {id:?}, shape: VariantShape::{shape}, mosaic: {mosaic}, workload: Workload {{ \
         query: {query}, items: {items}, item_tokens: {item_tokens}, pool_pages: {pool_pages} }} }},\n"
    )
}

fn attention(spec: &AttentionSpec) -> String {
    let (q_heads, kv_heads, head_dim) = (spec.q_heads(), spec.kv_heads(), spec.head_dim());
    let (page_size, dtype, scale) = (spec.page_size(), spec.dtype(), spec.scale());
    let cap = spec.soft_cap().map_or(String::new(), |cap| format!(".soft_cap({cap:?})"));
    let window = spec.sliding_window().map_or(String::new(), |window| format!(".sliding_window({window})"));
    format!(
        "AttentionSpec::builder({q_heads}, {kv_heads}, {head_dim}).page_size({page_size})\
         .dtype(DType::{dtype:?}).scale({scale:?}){cap}{window}.build()?"
    )
}

fn kv_write(spec: &KvWriteSpec) -> String {
    let (kv_heads, head_dim) = (spec.kv_heads(), spec.head_dim());
    let (page_size, dtype) = (spec.page_size(), spec.dtype());
    format!("KvWriteSpec::new({kv_heads}, {head_dim}, {page_size}, DType::{dtype:?})?")
}

fn labels(spec: &LabelLogprobsSpec) -> String {
    let (hidden, vocab, labels, dtype) = (spec.hidden(), spec.vocab(), spec.labels(), spec.dtype());
    format!("LabelLogprobsSpec::new({hidden}, {vocab}, LabelSet::{labels:?}, DType::{dtype:?})?")
}
