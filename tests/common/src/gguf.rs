//! GGUF files as documents that tests edit and write, and a Llama that is small enough to evaluate by hand.

use super::Random;

/// A value of the header.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    U8(u8),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i32>),
}

/// A tensor; `dims` from the slowest.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub dims: Vec<u64>,
    /// Of ggml: 0 is f32.
    pub code: u32,
    pub data: Vec<u8>,
    /// Where the header says it lies, if not where it does.
    pub offset: Option<u64>,
}

impl Tensor {
    pub fn f32(name: impl Into<String>, dims: &[u64], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor { name: name.into(), dims: dims.to_vec(), code: 0, data, offset: None }
    }

    /// Of a tensor of f32.
    pub fn values(&self) -> Vec<f32> {
        self.data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }
}

/// A file.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    pub entries: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
    /// By which tensors are laid out; the header's `general.alignment` is an entry like others.
    pub alignment: usize,
}

impl Gguf {
    /// With what `tensors` say alone.
    pub fn of(tensors: Vec<Tensor>) -> Self {
        Gguf { entries: Vec::new(), tensors, alignment: 32 }
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Overwrites the entry, or adds it.
    pub fn set(&mut self, key: &str, value: Value) {
        match self.entries.iter_mut().find(|(name, _)| name == key) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key.to_owned(), value)),
        }
    }

    pub fn remove(&mut self, key: &str) {
        self.entries.retain(|(name, _)| name != key);
    }

    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The tensor of this name, which there must be.
    pub fn tensor_mut(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("the tensor is there")
    }

    /// Gives a tensor other values, and a shape for them.
    pub fn replace(&mut self, name: &str, dims: &[u64], change: impl FnOnce(Vec<f32>) -> Vec<f32>) {
        let tensor = self.tensor_mut(name);
        *tensor = Tensor::f32(name, dims, &change(tensor.values()));
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            text(&mut bytes, key);
            entry(&mut bytes, value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            text(&mut bytes, &tensor.name);
            bytes.extend((tensor.dims.len() as u32).to_le_bytes());
            // From the fastest.
            tensor.dims.iter().rev().for_each(|d| bytes.extend(d.to_le_bytes()));
            bytes.extend(tensor.code.to_le_bytes());
            bytes.extend(tensor.offset.unwrap_or(offset as u64).to_le_bytes());
            offset = (offset + tensor.data.len()).next_multiple_of(self.alignment);
        }
        for tensor in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
            bytes.extend(&tensor.data);
        }
        bytes
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Type and value.
fn entry(bytes: &mut Vec<u8>, value: &Value) {
    fn scalar<const N: usize>(bytes: &mut Vec<u8>, code: u32, value: [u8; N]) {
        bytes.extend(code.to_le_bytes());
        bytes.extend(value);
    }
    fn list(bytes: &mut Vec<u8>, code: u32, len: usize) {
        scalar(bytes, 9, code.to_le_bytes());
        bytes.extend((len as u64).to_le_bytes());
    }
    match value {
        Value::U8(n) => scalar(bytes, 0, n.to_le_bytes()),
        Value::U32(n) => scalar(bytes, 4, n.to_le_bytes()),
        Value::I32(n) => scalar(bytes, 5, n.to_le_bytes()),
        Value::F32(x) => scalar(bytes, 6, x.to_le_bytes()),
        Value::Flag(on) => scalar(bytes, 7, [u8::from(*on)]),
        Value::Text(value) => {
            bytes.extend(8u32.to_le_bytes());
            text(bytes, value);
        }
        Value::U64(n) => scalar(bytes, 10, n.to_le_bytes()),
        Value::I64(n) => scalar(bytes, 11, n.to_le_bytes()),
        Value::F64(x) => scalar(bytes, 12, x.to_le_bytes()),
        Value::Texts(values) => {
            list(bytes, 8, values.len());
            values.iter().for_each(|value| text(bytes, value));
        }
        Value::Integers(values) => {
            list(bytes, 5, values.len());
            values.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
        }
    }
}

/// Tokens of [`tiny_llama`].
pub const TINY_VOCABULARY: usize = 128;

/// A Llama of two layers, with random weights: hidden 128, MLP 96, two query heads of 64 on one KV head.
pub fn tiny_llama(seed: u64) -> Gguf {
    let (hidden, mlp, kv) = (128, 96, 64);
    let mut tokens: Vec<String> = ('!'..='~').map(String::from).collect();
    tokens.extend(["Ġ", "th", "he", "the", "Ġthe", "<|end|>"].map(str::to_owned));
    tokens.extend((tokens.len()..TINY_VOCABULARY).map(|i| format!("<{i}>")));
    let kinds = tokens.iter().map(|token| if token == "<|end|>" { 3 } else { 1 }).collect();
    let merges = ["t h", "h e", "th e", "Ġ the"].map(str::to_owned).to_vec();
    let entries = [
        ("general.architecture", Value::Text("llama".into())),
        ("general.type", Value::Text("model".into())),
        ("general.name", Value::Text("tiny".into())),
        ("llama.block_count", Value::U32(2)),
        ("llama.context_length", Value::U32(256)),
        ("llama.embedding_length", Value::U32(hidden)),
        ("llama.feed_forward_length", Value::U32(mlp)),
        ("llama.attention.head_count", Value::U32(2)),
        ("llama.attention.head_count_kv", Value::U32(1)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.rope.dimension_count", Value::U32(64)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.vocab_size", Value::U32(TINY_VOCABULARY as u32)),
        ("tokenizer.ggml.model", Value::Text("gpt2".into())),
        ("tokenizer.ggml.pre", Value::Text("smollm".into())),
        ("tokenizer.ggml.add_bos_token", Value::Flag(false)),
        ("tokenizer.ggml.tokens", Value::Texts(tokens)),
        ("tokenizer.ggml.token_type", Value::Integers(kinds)),
        ("tokenizer.ggml.merges", Value::Texts(merges)),
    ];
    let mut random = Random::new(seed);
    let mut normal = |name: String, dims: &[u32], mean: f32, deviation: f32| {
        let dims: Vec<u64> = dims.iter().copied().map(u64::from).collect();
        let count = dims.iter().product::<u64>();
        let values: Vec<f32> = (0..count).map(|_| mean + deviation * random.normal()).collect();
        Tensor::f32(name, &dims, &values)
    };
    let mut tensors = vec![normal("token_embd.weight".into(), &[TINY_VOCABULARY as u32, hidden], 0.0, 1.0)];
    for layer in 0..2 {
        let name = |name: &str| format!("blk.{layer}.{name}.weight");
        tensors.extend([
            normal(name("attn_norm"), &[hidden], 1.0, 0.2),
            normal(name("attn_q"), &[hidden, hidden], 0.0, 0.2),
            normal(name("attn_k"), &[kv, hidden], 0.0, 0.2),
            normal(name("attn_v"), &[kv, hidden], 0.0, 0.1),
            normal(name("attn_output"), &[hidden, hidden], 0.0, 0.1),
            normal(name("ffn_norm"), &[hidden], 1.0, 0.2),
            normal(name("ffn_gate"), &[mlp, hidden], 0.0, 0.1),
            normal(name("ffn_up"), &[mlp, hidden], 0.0, 0.1),
            normal(name("ffn_down"), &[hidden, mlp], 0.0, 0.1),
        ]);
    }
    tensors.push(normal("output_norm.weight".into(), &[hidden], 0.3, 0.1));
    let entries = entries.map(|(key, value)| (key.to_owned(), value)).to_vec();
    Gguf { entries, ..Gguf::of(tensors) }
}
