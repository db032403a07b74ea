use super::metadata::{Metadata, Neutral::Flag, Neutral::Number, Neutral::Text};
use super::{EngineError, ModelFile, container};

/// Positions are computed as f32, which counts to this.
const LONGEST_CONTEXT: usize = 1 << 24;

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
    /// Reads it from the file's metadata. What the program does not compute is refused where it asks for something; keys
    /// that this does not know stay unread.
    pub fn read(file: &ModelFile, metadata: &mut Metadata<'_>) -> Result<Self, EngineError> {
        if metadata.text("general.architecture")? != "llama" {
            return Err(metadata.refused("general.architecture", "this engine runs `llama`"));
        }
        container::read(file, "llama", metadata)?;

        let layers = metadata.count("llama.block_count")?;
        if layers != file.blocks() {
            let expected = format!("the file has tensors of {} blocks", file.blocks());
            return Err(metadata.refused("llama.block_count", &expected));
        }
        let hidden = metadata.count("llama.embedding_length")?;
        let q_heads = metadata.count("llama.attention.head_count")?;
        if !hidden.is_multiple_of(q_heads) {
            return Err(
                metadata.refused("llama.attention.head_count", "it must divide llama.embedding_length")
            );
        }
        let kv_heads = metadata.count_or("llama.attention.head_count_kv", q_heads)?;
        if !q_heads.is_multiple_of(kv_heads) {
            let expected = "it must divide llama.attention.head_count";
            return Err(metadata.refused("llama.attention.head_count_kv", expected));
        }
        let context = metadata.count("llama.context_length")?;
        if context > LONGEST_CONTEXT {
            let expected = format!("positions are counted to {LONGEST_CONTEXT}");
            return Err(metadata.refused("llama.context_length", &expected));
        }
        let config = LlamaConfig {
            layers,
            hidden,
            mlp: metadata.count("llama.feed_forward_length")?,
            q_heads,
            kv_heads,
            head_dim: hidden / q_heads,
            vocabulary: metadata.texts("tokenizer.ggml.tokens")?.len(),
            context,
            // Below one, later pairs would turn faster than the first.
            rope_theta: metadata.real_or("llama.rope.freq_base", 10_000.0, 1.0..=f32::MAX)?,
            norm_epsilon: metadata.real("llama.attention.layer_norm_rms_epsilon", f32::MIN_POSITIVE..=1.0)?,
        };
        config.check_neutral(metadata)?;
        Ok(config)
    }

    /// What relatives of this architecture compute and this program does not, at the value that leaves it out.
    fn check_neutral(&self, metadata: &mut Metadata<'_>) -> Result<(), EngineError> {
        let (zero, one) = (Number(0.0), Number(1.0));
        let equals = |n: usize| Number(n as f64);
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        for (key, values) in [
            // Said twice.
            ("vocab_size", &[equals(self.vocabulary)][..]),
            ("rope.dimension_count", &[equals(self.head_dim)]),
            ("attention.key_length", &[equals(self.head_dim)]),
            ("attention.value_length", &[equals(self.head_dim)]),
            ("attention.causal", &[Flag(true)]),
            // Rows of queries and keys have their pairs side by side.
            ("tensor_data_layout", &[Text("Meta AI original pth")]),
            // A factor of 0 stands for none.
            ("rope.scaling.type", &[Text("none")]),
            ("rope.scaling.factor", &[zero, one]),
            ("rope.scale_linear", &[zero, one]),
            ("rope.scaling.attn_factor", &[one]),
            ("rope.scaling.original_context_length", &[equals(self.context)]),
            // A window of the whole context hides nothing.
            ("attention.sliding_window", &[zero, equals(self.context)]),
            ("attention.scale", &[zero, Number(scale.into())]),
            ("attention.clamp_kqv", &[zero]),
            ("attention.max_alibi_bias", &[zero]),
            ("attn_logit_softcapping", &[zero]),
            ("final_logit_softcapping", &[zero]),
            ("logit_scale", &[one]),
            ("embedding_scale", &[one]),
            ("residual_scale", &[one]),
            ("use_parallel_residual", &[Flag(false)]),
            ("expert_count", &[zero]),
            ("expert_used_count", &[zero]),
            ("pooling_type", &[zero]),
        ] {
            metadata.neutral(&format!("llama.{key}"), values)?;
        }
        // Whether the model was trained on scaled positions: a note.
        metadata.pass_over("llama.rope.scaling.finetuned");
        Ok(())
    }

    /// Turns a pair of head elements by this much a position.
    pub fn rotary_frequencies(&self) -> Vec<f32> {
        let pairs = self.head_dim / 2;
        (0..pairs).map(|i| 1.0 / self.rope_theta.powf(i as f32 / pairs as f32)).collect()
    }
}
