use minijinja::{Environment, UndefinedBehavior, context};
use tpu_rpa::batch::{Tiling, layout};
use tpu_rpa::kernels;
use tpu_rpa::score::Pass;
use tpu_rpa::spec::{AttentionSpec, KvWriteSpec, LabelLogprobsSpec, LabelSet};

use super::{EngineError, LlamaConfig};

const TEMPLATE: &str = include_str!("llama.mlir.jinja");

/// The static shape of a pass: passes of equal shape run the same program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    pub bucket: tpu_rpa::batch::Bucket,
    pub tiling: Tiling,
    pub rows: usize,
    pub labels: usize,
    /// Whether keys and values are written to pages. Most passes write none, and leave the step out.
    pub writes_kv: bool,
}

impl Shape {
    pub fn of(pass: &Pass) -> Self {
        Shape {
            bucket: pass.plan().bucket(),
            tiling: pass.plan().tiling(),
            rows: pass.rows().len(),
            labels: pass.labels().len(),
            writes_kv: pass.kv_slots().slots().iter().any(|&slot| slot >= 0),
        }
    }
}

/// What programs of every shape have in common.
pub struct Model<'a> {
    pub config: &'a LlamaConfig,
    pub attention: &'a AttentionSpec,
    /// KV pages of one layer.
    pub pages: usize,
    /// Matrix products of bf16 inputs are computed on their f32 values.
    pub widen: bool,
}

/// Text of the program that runs passes of this shape.
pub fn render(model: &Model<'_>, shape: &Shape) -> Result<String, EngineError> {
    let (c, spec) = (model.config, model.attention);
    let tokens = shape.bucket.tokens;
    let pool = c.layers * model.pages;
    let labels =
        LabelLogprobsSpec::new(c.hidden, c.vocabulary, LabelSet::Shared(shape.labels), spec.dtype())?;
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    let text = templates.render_str(
        TEMPLATE,
        context! {
            attention => kernels::attention("attention", spec, &shape.tiling, &shape.bucket, pool)?.text(),
            kv_write => kernels::kv_write("kv_write", &KvWriteSpec::from(spec), tokens, pool)?.text(),
            label_logprobs => kernels::label_logprobs("label_logprobs", &labels, tokens, shape.rows)?.text(),
            dtype => spec.dtype().mlir(),
            widen => model.widen,
            writes_kv => shape.writes_kv,
            tokens,
            meta_words => shape.bucket.meta_words,
            rows => shape.rows,
            labels => shape.labels,
            layers => c.layers,
            hidden => c.hidden,
            mlp => c.mlp,
            q_heads => c.q_heads,
            kv_heads => c.kv_heads,
            head_dim => c.head_dim,
            vocab => c.vocabulary,
            pages => model.pages,
            page_size => spec.page_size(),
            epsilon => format!("{:e}", c.norm_epsilon),
            frequencies => c.rotary_frequencies().iter().map(|f| format!("{f:e}")).collect::<Vec<_>>(),
            positions_at => layout::HEADER + layout::POSITION * tokens,
            pages_word => layout::PAGES,
            slots_word => layout::SLOTS,
        },
    )?;
    Ok(text)
}
