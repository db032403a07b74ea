use half::bf16;
use tpu_rpa::runtime::{Buffer, Client, Element, HostBuffer};
use tpu_rpa::spec::DType;

use super::{EngineError, LlamaConfig, ModelFile};

/// The model's weights on the device, in the order of the program's parameters.
pub struct Weights {
    buffers: Vec<Buffer>,
}

impl Weights {
    /// Reads, dequantises and uploads every tensor. `on_tensor` is told how many of how many are done.
    pub fn load(
        client: &Client,
        file: &ModelFile,
        config: &LlamaConfig,
        dtype: DType,
        on_tensor: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, EngineError> {
        match dtype {
            DType::Bf16 => Loader { client, file, config, on_tensor, done: 0 }.load(bf16::from_f32),
            _ => Loader { client, file, config, on_tensor, done: 0 }.load(|x: f32| x),
        }
    }

    /// In the order of the program's parameters.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }
}

struct Loader<'a> {
    client: &'a Client,
    file: &'a ModelFile,
    config: &'a LlamaConfig,
    on_tensor: &'a mut dyn FnMut(usize, usize),
    done: usize,
}

/// Tensors of one layer.
const LAYER_TENSORS: usize = 9;

impl Loader<'_> {
    fn load<T: Element>(mut self, store: impl Fn(f32) -> T + Copy) -> Result<Weights, EngineError> {
        let c = self.config.clone();
        let (q, kv) = (c.q_heads * c.head_dim, c.kv_heads * c.head_dim);
        let table = [c.vocabulary, c.hidden];
        let embedding = self.single("token_embd.weight", &table, store)?;
        let lm_head = if self.file.has_tensor("output.weight") {
            self.single("output.weight", &table, store)?
        } else {
            embedding.clone()
        };
        let norm = |x: f32| x;
        let buffers = vec![
            embedding,
            lm_head,
            self.single("output_norm.weight", &[c.hidden], norm)?,
            self.stacked("attn_norm", &[c.hidden], None, norm)?,
            self.stacked("attn_q", &[q, c.hidden], Some(c.head_dim), store)?,
            self.stacked("attn_k", &[kv, c.hidden], Some(c.head_dim), store)?,
            self.stacked("attn_v", &[kv, c.hidden], None, store)?,
            self.stacked("attn_output", &[c.hidden, q], None, store)?,
            self.stacked("ffn_norm", &[c.hidden], None, norm)?,
            self.stacked("ffn_gate", &[c.mlp, c.hidden], None, store)?,
            self.stacked("ffn_up", &[c.mlp, c.hidden], None, store)?,
            self.stacked("ffn_down", &[c.hidden, c.mlp], None, store)?,
        ];
        Ok(Weights { buffers })
    }

    fn single<T: Element>(
        &mut self,
        name: &str,
        dims: &[usize],
        store: impl Fn(f32) -> T,
    ) -> Result<Buffer, EngineError> {
        let values = self.read(name, dims)?;
        let mut host = HostBuffer::zeroed(values.len())?;
        copy(&values, &mut host, store);
        Ok(self.client.upload_owned(host, dims)?)
    }

    /// The tensor of every layer, one after the other. With `head_dim`, rows come in the order of halves.
    fn stacked<T: Element>(
        &mut self,
        name: &str,
        dims: &[usize],
        head_dim: Option<usize>,
        store: impl Fn(f32) -> T + Copy,
    ) -> Result<Buffer, EngineError> {
        let size: usize = dims.iter().product();
        let layers = self.config.layers;
        let mut host = HostBuffer::zeroed(layers.saturating_mul(size))?;
        for (layer, target) in host.chunks_exact_mut(size).enumerate() {
            let values = self.read(&format!("blk.{layer}.{name}.weight"), dims)?;
            match head_dim {
                Some(head_dim) => copy_halves(&values, target, dims[1], head_dim, store),
                None => copy(&values, target, store),
            }
        }
        let mut stacked_dims = vec![layers];
        stacked_dims.extend_from_slice(dims);
        Ok(self.client.upload_owned(host, &stacked_dims)?)
    }

    fn read(&mut self, name: &str, dims: &[usize]) -> Result<Vec<f32>, EngineError> {
        let values = self.file.tensor(name, dims)?;
        self.done += 1;
        (self.on_tensor)(self.done, LAYER_TENSORS * self.config.layers + 2);
        Ok(values)
    }
}

fn copy<T>(values: &[f32], target: &mut [T], store: impl Fn(f32) -> T) {
    for (to, &from) in target.iter_mut().zip(values) {
        *to = store(from);
    }
}

/// GGUF keeps the rows of rotated heads as pairs (0, half), (1, half + 1), …; the program turns halves.
fn copy_halves<T>(
    values: &[f32],
    target: &mut [T],
    columns: usize,
    head_dim: usize,
    store: impl Fn(f32) -> T + Copy,
) {
    for (row, to) in target.chunks_exact_mut(columns).enumerate() {
        let (head, at) = (row / head_dim, row % head_dim);
        let (second_half, pair) = (at / (head_dim / 2), at % (head_dim / 2));
        let from = head * head_dim + 2 * pair + second_half;
        copy(&values[from * columns..][..columns], to, store);
    }
}
