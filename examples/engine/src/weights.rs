use half::bf16;
use tpu_rpa::runtime::{Buffer, Client, Element, HostBuffer};
use tpu_rpa::spec::DType;

use super::{EngineError, LlamaConfig, ModelFile, Tensor};

/// The model's weights on the device, in the order of the program's parameters.
pub struct Weights {
    buffers: Vec<Buffer>,
}

impl Weights {
    /// Reads, dequantises and uploads every tensor of the file; one that the program has no parameter for is refused first.
    /// `on_tensor` is told how many of how many are done.
    pub fn load(
        client: &Client,
        file: &ModelFile,
        config: &LlamaConfig,
        dtype: DType,
        on_tensor: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, EngineError> {
        let parameters = parameters(file, config)?;
        let all = parameters.iter().map(|parameter| parameter.tensors.len()).sum();
        let mut done = 0;
        let mut step = || {
            done += 1;
            on_tensor(done, all);
        };
        let mut buffers = Vec::with_capacity(parameters.len() + 1);
        for parameter in &parameters {
            buffers.push(match (parameter.kind, dtype) {
                (Kind::Matrix | Kind::Rotated(_), DType::Bf16) => {
                    parameter.upload(client, bf16::from_f32, &mut step)
                }
                _ => parameter.upload(client, |x: f32| x, &mut step),
            }?);
        }
        if !file.tensors().has(LM_HEAD) {
            buffers.insert(1, buffers[0].clone());
        }
        Ok(Weights { buffers })
    }

    /// In the order of the program's parameters.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }
}

/// Where there is none, the embedding is the LM head too.
const LM_HEAD: &str = "output.weight";

/// A parameter of the program, and the tensors that it is made of.
struct Parameter<'a> {
    /// One, or one a layer.
    tensors: Vec<Tensor<'a>>,
    dims: Vec<usize>,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Kept in f32.
    Norm,
    Matrix,
    /// A matrix whose rows come in the order of halves: elements of a head that it turns.
    Rotated(usize),
}

/// The program's parameters in order, the LM head left out where it is tied. Claims every tensor of the file.
fn parameters<'a>(file: &'a ModelFile, c: &LlamaConfig) -> Result<Vec<Parameter<'a>>, EngineError> {
    let (q, kv) = (c.q_heads * c.head_dim, c.kv_heads * c.head_dim);
    let mut tensors = file.tensors();
    let mut parameters = Vec::new();
    for (name, dims, kind) in [
        ("token_embd.weight", &[c.vocabulary, c.hidden][..], Kind::Matrix),
        (LM_HEAD, &[c.vocabulary, c.hidden], Kind::Matrix),
        ("output_norm.weight", &[c.hidden], Kind::Norm),
    ] {
        if name != LM_HEAD || tensors.has(LM_HEAD) {
            let tensors = vec![tensors.take(name, dims)?];
            parameters.push(Parameter { tensors, dims: dims.to_vec(), kind });
        }
    }
    for (name, dims, kind) in [
        ("attn_norm", &[c.hidden][..], Kind::Norm),
        ("attn_q", &[q, c.hidden], Kind::Rotated(c.head_dim)),
        ("attn_k", &[kv, c.hidden], Kind::Rotated(c.head_dim)),
        ("attn_v", &[kv, c.hidden], Kind::Matrix),
        ("attn_output", &[c.hidden, q], Kind::Matrix),
        ("ffn_norm", &[c.hidden], Kind::Norm),
        ("ffn_gate", &[c.mlp, c.hidden], Kind::Matrix),
        ("ffn_up", &[c.mlp, c.hidden], Kind::Matrix),
        ("ffn_down", &[c.hidden, c.mlp], Kind::Matrix),
    ] {
        let layers = (0..c.layers).map(|layer| tensors.take(&format!("blk.{layer}.{name}.weight"), dims));
        let tensors = layers.collect::<Result<_, _>>()?;
        parameters.push(Parameter { tensors, dims: [&[c.layers], dims].concat(), kind });
    }
    tensors.finish()?;
    Ok(parameters)
}

impl Parameter<'_> {
    fn upload<T: Element>(
        &self,
        client: &Client,
        store: impl Fn(f32) -> T + Copy,
        step: &mut dyn FnMut(),
    ) -> Result<Buffer, EngineError> {
        // The tensors are there in these shapes, so that the file bounds it.
        let size: usize = self.dims.iter().product();
        let mut host = HostBuffer::zeroed(size)?;
        for (tensor, target) in self.tensors.iter().zip(host.chunks_exact_mut(size / self.tensors.len())) {
            let values = tensor.values(T::DTYPE)?;
            match (self.kind, self.dims.last()) {
                (Kind::Rotated(head_dim), Some(&columns)) => {
                    copy_halves(&values, target, columns, head_dim, store);
                }
                _ => copy(&values, target, store),
            }
            step();
        }
        Ok(client.upload_owned(host, &self.dims)?)
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
