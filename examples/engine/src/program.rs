use minijinja::{Environment, UndefinedBehavior, context};
use tpu_rpa::batch::Tiling;
use tpu_rpa::kernels::{self, Kernel, Target, stablehlo_function};
use tpu_rpa::score::Pass;
use tpu_rpa::spec::{AttentionSpec, LabelLogprobsSpec, LabelSet};

use super::{EngineError, LlamaConfig};

const TEMPLATE: &str = include_str!("llama.mlir.jinja");

/// The static shape of a pass: passes of equal shape run the same program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    pub bucket: tpu_rpa::batch::Bucket,
    pub tiling: Tiling,
    pub rows: usize,
    pub labels: usize,
    pub kv: KvUse,
}

impl Shape {
    pub fn of(pass: &Pass) -> Self {
        Shape {
            bucket: pass.plan().bucket(),
            tiling: pass.plan().tiling(),
            rows: pass.rows().len(),
            labels: pass.labels().len(),
            kv: KvUse::of(pass),
        }
    }
}

/// What a program does with the KV pages. A request of one pass does not need them at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvUse {
    None,
    Read,
    /// New keys and values are written; earlier ones may be read.
    Write,
}

impl KvUse {
    fn of(pass: &Pass) -> Self {
        if !pass.kv_slots().is_empty() {
            KvUse::Write
        } else if pass.prefix_tokens() > 0 {
            KvUse::Read
        } else {
            KvUse::None
        }
    }
}

/// What programs of every shape have in common.
pub struct Model<'a> {
    pub config: &'a LlamaConfig,
    pub attention: &'a AttentionSpec,
    /// KV pages of one layer.
    pub pages: usize,
    /// Whose kernels it calls.
    pub target: Target,
    /// Matrix products of bf16 inputs are computed on their f32 values.
    pub widen: bool,
}

impl Model<'_> {
    /// Pages of the pool that a program of this shape takes.
    fn pool(&self, shape: &Shape) -> usize {
        match shape.kv {
            KvUse::None => 1,
            KvUse::Read | KvUse::Write => self.config.layers * self.pages,
        }
    }
}

/// The attention kernel of programs of this shape.
pub fn attention(model: &Model<'_>, shape: &Shape) -> Kernel {
    let (spec, tiling, bucket) = (model.attention.clone(), shape.tiling, shape.bucket);
    let pool_pages = model.pool(shape);
    if shape.kv == KvUse::Write {
        Kernel::AttentionWrite { spec, tiling, bucket, pool_pages }
    } else {
        Kernel::Attention { spec, tiling, bucket, pool_pages }
    }
}

/// Text of the program that runs passes of this shape.
pub fn render(model: &Model<'_>, shape: &Shape) -> Result<String, EngineError> {
    let (c, spec) = (model.config, model.attention);
    let tokens = shape.bucket.tokens;
    let labels =
        LabelLogprobsSpec::new(c.hidden, c.vocabulary, LabelSet::Shared(shape.labels), spec.dtype())?;
    let function = |kernel: Kernel| stablehlo_function(kernel.name(), &kernel, model.target);
    let writes = shape.kv == KvUse::Write;
    let attention = function(attention(model, shape))?;
    let positions = kernels::positions("positions", &shape.bucket)?;
    let label_logprobs = function(Kernel::label_logprobs(&labels, tokens, shape.rows)?)?;
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    let text = templates.render_str(
        TEMPLATE,
        context! {
            attention => attention.text(),
            positions => positions.text(),
            label_logprobs => label_logprobs.text(),
            // Slots, or on a TPU the chunk table; of a program that writes.
            slots_type => attention.inputs()[5].to_string(),
            dtype => spec.dtype().mlir(),
            widen => model.widen,
            uses_kv => shape.kv != KvUse::None,
            writes_kv => writes,
            pool => model.pool(shape),
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
            epsilon => literal(c.norm_epsilon),
            frequencies => c.rotary_frequencies().into_iter().map(literal).collect::<Vec<_>>(),
        },
    )?;
    Ok(text)
}

/// An f32 as MLIR spells it, to the bit.
fn literal(value: f32) -> String {
    format!("{value:.9e}")
}
