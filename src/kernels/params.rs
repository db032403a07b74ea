//! What a template is rendered with. Shared by the library and by build.rs, so it knows no other module.

use serde::{Deserialize, Serialize};

fn f32_name() -> String {
    "f32".to_owned()
}

/// Parameters of `kernels/attention/stablehlo.mlir`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attention {
    pub q_heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub page_size: usize,
    #[serde(default = "f32_name")]
    pub dtype: String,
    #[serde(default)]
    pub scale: Option<f32>,
    #[serde(default)]
    pub soft_cap: Option<f32>,
    #[serde(default)]
    pub window: Option<u32>,
}

/// Parameters of `kernels/kv_write/stablehlo.mlir`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KvWrite {
    pub kv_heads: usize,
    pub head_dim: usize,
    pub page_size: usize,
    #[serde(default = "f32_name")]
    pub dtype: String,
}

/// Parameters of `kernels/label_logprobs/stablehlo.mlir` and `kernels/label_softmax/stablehlo.mlir`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Labels {
    pub hidden: usize,
    pub vocab: usize,
    pub labels: usize,
    #[serde(default)]
    pub per_row: bool,
    #[serde(default = "f32_name")]
    pub dtype: String,
}
