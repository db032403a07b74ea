use super::{EngineError, ModelFile};

/// Shape of a Llama-family model.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    pub layers: usize,
    pub hidden: usize,
    pub mlp: usize,
    pub q_heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocabulary: usize,
    pub context: usize,
    pub rope_theta: f32,
    pub norm_epsilon: f32,
}

impl LlamaConfig {
    /// Reads it from the metadata; refuses what the program does not compute.
    pub fn read(file: &ModelFile) -> Result<Self, EngineError> {
        let unsupported = |key: &str, found: String, expected: &str| EngineError::Unsupported {
            key: key.into(),
            found,
            expected: expected.into(),
        };
        let architecture = file.string("general.architecture")?;
        if architecture != "llama" {
            return Err(unsupported("general.architecture", architecture.into(), "this engine runs `llama`"));
        }
        if let Ok(scaling) = file.string("llama.rope.scaling.type")
            && scaling != "none"
        {
            let key = "llama.rope.scaling.type";
            return Err(unsupported(key, scaling.into(), "rotary scaling is not implemented"));
        }
        let hidden = file.count("llama.embedding_length")?;
        let q_heads = file.count("llama.attention.head_count")?;
        if q_heads == 0 || !hidden.is_multiple_of(q_heads) {
            let key = "llama.attention.head_count";
            return Err(unsupported(key, q_heads.to_string(), "it must divide llama.embedding_length"));
        }
        let head_dim = hidden / q_heads;
        let rotated = file.count("llama.rope.dimension_count")?;
        if rotated != head_dim {
            let key = "llama.rope.dimension_count";
            return Err(unsupported(key, rotated.to_string(), "this engine turns whole heads"));
        }
        Ok(LlamaConfig {
            layers: file.count("llama.block_count")?,
            hidden,
            mlp: file.count("llama.feed_forward_length")?,
            q_heads,
            kv_heads: file.count("llama.attention.head_count_kv")?,
            head_dim,
            vocabulary: file.strings("tokenizer.ggml.tokens")?.len(),
            context: file.count("llama.context_length")?,
            rope_theta: file.real("llama.rope.freq_base")?,
            norm_epsilon: file.real("llama.attention.layer_norm_rms_epsilon")?,
        })
    }

    /// Turns a pair of head elements by this much a position.
    pub fn rotary_frequencies(&self) -> Vec<f32> {
        let pairs = self.head_dim / 2;
        (0..pairs).map(|i| 1.0 / self.rope_theta.powf(i as f32 / pairs as f32)).collect()
    }
}
