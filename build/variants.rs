//! The variants that manifests declare.

use crate::kernels::{Variant, VariantShape};
use crate::manifest::{AttentionManifest, Declared, KvWriteManifest, LabelsManifest, dtype, manifest};
use crate::problem::Result;
use crate::spec::{AttentionSpec, KvWriteSpec, LabelLogprobsSpec, LabelSet, SpecError};

/// All of them.
pub(crate) fn variants() -> Result<Vec<Variant>> {
    let mut found = Vec::new();
    for declared in manifest::<AttentionManifest>("attention")?.variant {
        let at = format!("attention/{}", declared.id);
        let p = &declared.params;
        let mut spec = AttentionSpec::builder(p.q_heads, p.kv_heads, p.head_dim)
            .page_size(p.page_size)
            .dtype(dtype(&at, &p.dtype)?);
        if let Some(scale) = p.scale {
            spec = spec.scale(scale);
        }
        if let Some(cap) = p.soft_cap {
            spec = spec.soft_cap(cap);
        }
        if let Some(window) = p.window {
            spec = spec.sliding_window(window);
        }
        found.push(variant(at, &declared, spec.build().map(VariantShape::Attention))?);
    }
    for declared in manifest::<KvWriteManifest>("kv_write")?.variant {
        let at = format!("kv_write/{}", declared.id);
        let p = &declared.params;
        let spec = KvWriteSpec::new(p.kv_heads, p.head_dim, p.page_size, dtype(&at, &p.dtype)?);
        found.push(variant(at, &declared, spec.map(VariantShape::KvWrite))?);
    }
    found.extend(labels("label_logprobs", VariantShape::LabelLogprobs)?);
    found.extend(labels("label_softmax", VariantShape::LabelSoftmax)?);
    Ok(found)
}

fn labels(kernel: &str, shape: fn(LabelLogprobsSpec) -> VariantShape) -> Result<Vec<Variant>> {
    let declared = manifest::<LabelsManifest>(kernel)?.variant.into_iter();
    let variants = declared.map(|declared| {
        let at = format!("{kernel}/{}", declared.id);
        let p = &declared.params;
        let labels = if p.per_row { LabelSet::PerRow(p.labels) } else { LabelSet::Shared(p.labels) };
        let spec = LabelLogprobsSpec::new(p.hidden, p.vocab, labels, dtype(&at, &p.dtype)?);
        variant(at, &declared, spec.map(shape))
    });
    variants.collect()
}

fn variant<P>(
    at: String,
    declared: &Declared<P>,
    shape: std::result::Result<VariantShape, SpecError>,
) -> Result<Variant> {
    let shape = shape.map_err(|e| format!("{at}: {e}"))?;
    Ok(Variant { id: at.leak(), shape, workload: declared.workload, mosaic: declared.mosaic })
}
