use std::collections::HashSet;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, PreTokenizerWrapper};

use super::EngineError;
use super::metadata::{Metadata, Neutral::Flag, Neutral::Text};
use super::shown::shown;

const TOKENS: &str = "tokenizer.ggml.tokens";
const MERGES: &str = "tokenizer.ggml.merges";
const TYPES: &str = "tokenizer.ggml.token_type";

/// Kinds of tokens. What is unused is a place that no text leads to.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

/// Text to token ids, with the vocabulary of the model file. Adds nothing: no BOS, no space.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Sets up byte-level BPE as the file describes it.
    pub fn read(metadata: &mut Metadata<'_>) -> Result<Self, EngineError> {
        for (key, expected) in [("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", "smollm")] {
            metadata.text(key)?;
            metadata.neutral(key, &[Text(expected)])?;
        }
        // Scores are defined on ids joined as they are.
        for name in [
            "add_bos_token",
            "add_eos_token",
            "add_sep_token",
            "add_space_prefix",
            "remove_extra_whitespaces",
        ] {
            metadata.neutral(&format!("tokenizer.ggml.{name}"), &[Flag(false)])?;
        }
        // Ids of tokens that generation stops at or pads with, and the scores of other models' tokens.
        metadata.pass_over_all(|key| {
            let name = key.strip_prefix("tokenizer.ggml.").unwrap_or_default();
            name.ends_with("_token_id") || name == "scores"
        });
        let tokens = metadata.texts(TOKENS)?;
        let control: Vec<AddedToken> = control(metadata, tokens)?;
        let vocabulary: Vocab = (0..).zip(tokens).map(|(id, token)| (token.clone(), id)).collect();
        if let Some((id, token)) = (0u32..).zip(tokens).find(|(id, token)| vocabulary[*token] != *id) {
            return Err(EngineError::Metadata {
                key: format!("{TOKENS}[{id}]"),
                found: format!("\"{}\"", shown(token)),
                expected: format!("token {} has the same text", vocabulary[token]),
            });
        }
        let bpe = BPE::builder().vocab_and_merges(vocabulary, merges(metadata)?);
        let bpe = bpe.build().map_err(|source| EngineError::Tokenizer { key: MERGES, source })?;
        let mut inner = tokenizers::Tokenizer::new(bpe);
        // `smollm`: every digit is a piece of its own, GPT-2's pattern splits the rest.
        let pieces: Vec<PreTokenizerWrapper> =
            vec![Digits::new(true).into(), ByteLevel::new(false, false, true).into()];
        inner.with_pre_tokenizer(Some(Sequence::new(pieces)));
        inner.add_special_tokens(control).map_err(|source| EngineError::Tokenizer { key: TOKENS, source })?;
        Ok(Tokenizer { inner })
    }

    /// Token ids of a text. Bytes that no token stands for vanish.
    pub fn encode(&self, text: &str) -> Result<Vec<i32>, EngineError> {
        let encoding = self.inner.encode_fast(text, false).map_err(EngineError::Encode)?;
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

/// Tokens that are found in a text before it is cut into pieces.
fn control(metadata: &mut Metadata<'_>, tokens: &[String]) -> Result<Vec<AddedToken>, EngineError> {
    let kinds = metadata.integers(TYPES)?;
    if kinds.len() != tokens.len() {
        return Err(metadata.refused(TYPES, &format!("there are {} tokens", tokens.len())));
    }
    let known = |kind| [NORMAL, CONTROL, UNUSED].contains(&kind);
    if let Some((id, kind)) = kinds.iter().enumerate().find(|&(_, &kind)| !known(kind)) {
        return Err(EngineError::Metadata {
            key: format!("{TYPES}[{id}]"),
            found: kind.to_string(),
            expected: format!(
                "this tokenizer knows {NORMAL} (normal), {CONTROL} (control) and {UNUSED} (unused)"
            ),
        });
    }
    let control = kinds.iter().zip(tokens).filter(|&(&kind, _)| kind == CONTROL);
    Ok(control.map(|(_, token)| AddedToken::from(token.as_str(), true)).collect())
}

/// Pairs of pieces that are joined, the first before all others.
fn merges(metadata: &mut Metadata<'_>) -> Result<Vec<(String, String)>, EngineError> {
    let merges = metadata.texts(MERGES)?;
    let mut seen = HashSet::with_capacity(merges.len());
    let pairs = merges.iter().enumerate().map(|(i, merge)| {
        let pair = merge.split_once(' ').filter(|_| seen.insert(merge));
        let (left, right) = pair.ok_or_else(|| EngineError::Metadata {
            key: format!("{MERGES}[{i}]"),
            found: format!("\"{}\"", shown(merge)),
            expected: "it must be two pieces with a space between, and in the list once".into(),
        })?;
        Ok((left.to_owned(), right.to_owned()))
    });
    pairs.collect()
}
