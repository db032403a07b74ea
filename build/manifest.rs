//! Kernels' `manifest.toml`.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::kernels::tiles::{Blocks, Tiles};
use crate::kernels::{Workload, params};
use crate::problem::Result;
use crate::spec::DType;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest<P, B = ()> {
    kernel: String,
    #[serde(rename = "summary")]
    _summary: String,
    portable: Option<B>,
    tpu: Option<B>,
    pub variant: Vec<Declared<P>>,
}

#[derive(Deserialize)]
pub(crate) struct Declared<P> {
    pub id: String,
    #[serde(default)]
    pub mosaic: bool,
    #[serde(default)]
    pub workload: Workload,
    #[serde(flatten)]
    pub params: P,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VocabBlock {
    vocab_block: usize,
}

pub(crate) type AttentionManifest = Manifest<params::Attention, Tiles>;
pub(crate) type KvWriteManifest = Manifest<params::KvWrite>;
pub(crate) type LabelsManifest = Manifest<params::Labels, VocabBlock>;

/// Block sizes, from the manifests.
pub(crate) fn blocks() -> Result<Blocks> {
    let attention: AttentionManifest = manifest("attention")?;
    let labels: LabelsManifest = manifest("label_logprobs")?;
    let lacks = |table: &str| format!("manifest.toml lacks [{table}]");
    Ok(Blocks {
        attention: attention.portable.ok_or_else(|| lacks("portable"))?,
        attention_tpu: attention.tpu.ok_or_else(|| lacks("tpu"))?,
        vocab_block: labels.portable.ok_or_else(|| lacks("portable"))?.vocab_block,
    })
}

/// The manifest in a kernel's folder.
pub(crate) fn manifest<M: DeserializeOwned + Named>(kernel: &str) -> Result<M> {
    let path = format!("kernels/{kernel}/manifest.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let manifest: M = toml::from_str(&text).map_err(|e| format!("{path}: {e}"))?;
    if manifest.name() != kernel {
        return Err(format!(
            "{path}: kernel is {:?}; it must be {kernel:?}, the folder's name",
            manifest.name()
        ));
    }
    Ok(manifest)
}

pub(crate) trait Named {
    fn name(&self) -> &str;
}

impl<P, B> Named for Manifest<P, B> {
    fn name(&self) -> &str {
        &self.kernel
    }
}

/// The dtype of what lies `at`.
pub(crate) fn dtype(at: &str, name: &str) -> Result<DType> {
    match name {
        "f32" => Ok(DType::F32),
        "bf16" => Ok(DType::Bf16),
        other => Err(format!("{at}: dtype is {other:?}; it must be \"f32\" or \"bf16\"")),
    }
}
