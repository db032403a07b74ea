use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use half::bf16;
use tpu_rpa::kernels::{LabelTiling, Target, WorkloadClass};
use tpu_rpa::runtime::{Arg, Buffer, CacheStats, Client, CompileOptions, Executable, Plugin};
use tpu_rpa::score::{ForwardPass, Limits, Pass};
use tpu_rpa::spec::{AttentionSpec, DType};

use super::program::{self, KvUse, Shape};
use super::weights::Weights;
use super::{EngineError, LlamaConfig, ModelFile};

/// Tokens of one KV page.
const PAGE_SIZE: usize = 16;

/// A model on a device: weights and KV pages stay there, programs are compiled once a shape.
pub struct Llama {
    client: Client,
    config: LlamaConfig,
    attention: AttentionSpec,
    limits: Limits,
    weights: Weights,
    /// All layers' pages. Made when a pass first uses them, and again after a pass that wrote to them failed.
    kv_pages: Option<Buffer>,
    programs: HashMap<Shape, Arc<Executable>>,
    on_compile: Option<Box<dyn FnMut(usize) + Send>>,
    compile_time: Duration,
}

impl Llama {
    /// Reads the model and uploads it; `dtype`, f32 or bf16, is that of weights, KV pages and the inputs of matrix
    /// products. `on_tensor` is told how many of how many tensors are done.
    pub fn load(
        client: Client,
        file: &ModelFile,
        config: LlamaConfig,
        dtype: DType,
        on_tensor: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, EngineError> {
        let attention = AttentionSpec::builder(config.q_heads, config.kv_heads, config.head_dim)
            .page_size(PAGE_SIZE)
            .dtype(dtype)
            .build()?;
        let limits = Limits {
            vocabulary: config.vocabulary,
            context: config.context,
            pass_tokens: config.context,
            max_request_tokens: 1 << 20,
            max_items: 10_000,
            sliding_window: attention.sliding_window(),
            max_labels: match client.target() {
                Target::Tpu => LabelTiling::MAX_LABELS,
                Target::Portable => 1024,
            },
            page_size: PAGE_SIZE,
            pool_pages: config.context.div_ceil(PAGE_SIZE),
            tiling: client.tiling(&attention, WorkloadClass::Packed)?,
        };
        check_room(&config, &attention, limits.pool_pages)?;
        let weights = Weights::load(&client, file, &config, dtype, on_tensor)?;
        Ok(Llama {
            client,
            config,
            attention,
            limits,
            weights,
            kv_pages: None,
            programs: HashMap::new(),
            on_compile: None,
            compile_time: Duration::ZERO,
        })
    }

    /// Calls `listener` with the bucket's tokens before each program is compiled or loaded from the disk cache.
    pub fn on_compile(&mut self, listener: impl FnMut(usize) + Send + 'static) {
        self.on_compile = Some(Box::new(listener));
    }

    /// What became of the compile requests so far.
    pub fn cache_stats(&self) -> CacheStats {
        self.client.cache_stats()
    }

    /// Time spent on compiling, or loading from the disk cache, so far.
    pub fn compile_time(&self) -> Duration {
        self.compile_time
    }

    /// The model's shape.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The plugin that runs it.
    pub fn plugin(&self) -> Plugin {
        self.client.plugin()
    }

    /// What it runs on, for reports.
    pub fn about(&self) -> serde_json::Value {
        serde_json::json!({
            "device": self.client.devices()[0].kind(),
            "interpreted": self.client.is_interpreted(),
            "platform": self.client.platform_name(),
            "platform_version": self.client.platform_version(),
        })
    }

    fn model(&self) -> program::Model<'_> {
        program::Model {
            config: &self.config,
            attention: &self.attention,
            pages: self.limits.pool_pages,
            target: self.client.target(),
            widen: self.client.platform_name() == "cpu",
        }
    }

    fn program(&mut self, shape: Shape) -> Result<Arc<Executable>, EngineError> {
        if let Some(program) = self.programs.get(&shape) {
            return Ok(Arc::clone(program));
        }
        if let Some(listener) = &mut self.on_compile {
            listener(shape.bucket.tokens);
        }
        let start = Instant::now();
        let text = program::render(&self.model(), &shape)?;
        let program = self.client.compile(&text, &CompileOptions::new())?;
        self.compile_time += start.elapsed();
        self.programs.insert(shape, Arc::clone(&program));
        Ok(program)
    }

    fn empty_pages(&self) -> Result<Buffer, EngineError> {
        let dims = pool_dims(&self.config, &self.attention, self.limits.pool_pages);
        let len = dims.iter().product();
        let full = |()| no_room(&self.config, &self.attention, self.limits.pool_pages);
        Ok(match self.attention.dtype() {
            DType::Bf16 => {
                self.client.upload(&bytemuck::try_zeroed_vec::<bf16>(len).map_err(full)?, &dims)?
            }
            _ => self.client.upload(&bytemuck::try_zeroed_vec::<f32>(len).map_err(full)?, &dims)?,
        })
    }
}

/// Shape of the KV pages of all layers.
fn pool_dims(config: &LlamaConfig, a: &AttentionSpec, pages: usize) -> [usize; 5] {
    [config.layers * pages, 2, a.kv_heads(), a.page_size(), a.head_dim()]
}

/// Whether the KV pages could be had, without taking them.
fn check_room(config: &LlamaConfig, a: &AttentionSpec, pages: usize) -> Result<(), EngineError> {
    let dims = pool_dims(config, a, pages);
    let bytes = dims.iter().try_fold(a.dtype().size(), |bytes, &dim| bytes.checked_mul(dim));
    let reserved = bytes.is_some_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok());
    if reserved { Ok(()) } else { Err(no_room(config, a, pages)) }
}

fn no_room(config: &LlamaConfig, a: &AttentionSpec, pages: usize) -> EngineError {
    let dims = pool_dims(config, a, pages);
    let bytes = dims.iter().fold(a.dtype().size() as u128, |bytes, &dim| bytes * dim as u128);
    EngineError::KvPages { context: config.context, bytes }
}

impl ForwardPass for Llama {
    type Error = EngineError;

    fn limits(&self) -> Limits {
        self.limits
    }

    fn run(&mut self, pass: &Pass) -> Result<Vec<f32>, EngineError> {
        let shape = Shape::of(pass);
        let kv = shape.kv;
        program::attention(&self.model(), &shape).takes(pass.plan())?;
        let program = self.program(shape)?;
        let span = tracing::debug_span!("upload").entered();
        let table;
        let mut words = vec![pass.token_ids(), pass.plan().meta()];
        if kv == KvUse::Write {
            words.push(match self.client.target() {
                Target::Tpu => {
                    table = pass.kv_slots().chunk_table(pass.plan())?;
                    &table
                }
                Target::Portable => pass.kv_slots().words(pass.plan())?,
            });
        }
        words.extend([pass.rows(), pass.labels()]);
        let mut inputs = Vec::with_capacity(words.len());
        for words in words {
            inputs.push(self.client.upload(words, &[words.len()])?);
        }
        let kv_pages = match kv {
            KvUse::None => None,
            KvUse::Read | KvUse::Write => Some(match self.kv_pages.take() {
                Some(pages) => pages,
                None => self.empty_pages()?,
            }),
        };
        let kv_pages = kv_pages.map(|pages| match kv {
            KvUse::Write => Arg::Donate(pages),
            _ => Arg::Keep(self.kv_pages.insert(pages)),
        });
        let rest = inputs.iter().chain(self.weights.buffers()).map(Arg::Keep);
        drop(span);
        let span = tracing::debug_span!("execute", ?kv).entered();
        let mut outputs = program.launch(rest.chain(kv_pages))?.wait()?;
        drop(span);
        if kv == KvUse::Write {
            self.kv_pages = outputs.pop();
        }
        let _span = tracing::debug_span!("download").entered();
        Ok(outputs.swap_remove(0).to_vec()?)
    }
}
