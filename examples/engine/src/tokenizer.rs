use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, PreTokenizerWrapper};

use super::{EngineError, ModelFile};

/// `tokenizer.ggml.token_type` of a control token.
const CONTROL: i32 = 3;

/// Text to token ids, with the vocabulary of the model file. Adds nothing: no BOS, no space.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Sets up byte-level BPE as the file describes it.
    pub fn read(file: &ModelFile) -> Result<Self, EngineError> {
        for (key, expected) in [("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", "smollm")] {
            let found = file.string(key)?;
            if found != expected {
                return Err(EngineError::Unsupported {
                    key: key.into(),
                    found: found.into(),
                    expected: format!("this tokenizer is set up for `{expected}`"),
                });
            }
        }
        for key in ["tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_space_prefix"] {
            if file.flag(key)? {
                return Err(EngineError::Unsupported {
                    key: key.into(),
                    found: "true".into(),
                    expected: "scores are defined on ids joined as they are".into(),
                });
            }
        }
        let tokens = file.strings("tokenizer.ggml.tokens")?;
        let merges = file.strings("tokenizer.ggml.merges")?;
        let control: Vec<AddedToken> = file
            .integers("tokenizer.ggml.token_type")?
            .iter()
            .zip(tokens)
            .filter(|&(&kind, _)| kind == CONTROL)
            .map(|(_, token)| AddedToken::from(token.as_str(), true))
            .collect();
        let vocabulary: tokenizers::models::bpe::Vocab =
            (0..).zip(tokens).map(|(id, token)| (token.clone(), id)).collect();
        let merges = merges
            .iter()
            .filter_map(|pair| pair.split_once(' '))
            .map(|(left, right)| (left.to_owned(), right.to_owned()))
            .collect();
        let bpe =
            BPE::builder().vocab_and_merges(vocabulary, merges).build().map_err(EngineError::Tokenizer)?;
        let mut inner = tokenizers::Tokenizer::new(bpe);
        // `smollm`: every digit is a piece of its own, GPT-2's pattern splits the rest.
        let pieces: Vec<PreTokenizerWrapper> =
            vec![Digits::new(true).into(), ByteLevel::new(false, false, true).into()];
        inner.with_pre_tokenizer(Some(Sequence::new(pieces)));
        inner.add_special_tokens(control).map_err(EngineError::Tokenizer)?;
        Ok(Tokenizer { inner })
    }

    /// Token ids of a text. Bytes that no token stands for vanish.
    pub fn encode(&self, text: &str) -> Result<Vec<i32>, EngineError> {
        let encoding = self.inner.encode_fast(text, false).map_err(EngineError::Tokenizer)?;
        Ok(encoding.get_ids().iter().map(|&id| id as i32).collect())
    }

    /// The token's text, as the vocabulary spells it.
    pub fn token(&self, id: i32) -> Option<String> {
        self.inner.id_to_token(u32::try_from(id).ok()?)
    }

    /// The id of a text that is exactly one token.
    pub fn single(&self, text: &str) -> Result<Option<i32>, EngineError> {
        Ok(match self.encode(text)?[..] {
            [id] => Some(id),
            _ => None,
        })
    }
}
