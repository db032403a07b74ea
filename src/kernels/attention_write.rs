//! What joins attention and KV write, and reads the planner's words, the same for every target.

use super::function::Function;
use super::render::{self, AttentionWriteContext, AttentionWriteTypes};
use super::tensor_type::TensorType;
use super::{KernelError, sizes};
use crate::batch::Bucket;
use crate::spec::DType;

/// Names of the two functions that `name` calls.
pub(super) fn inner_names(name: &str) -> [String; 2] {
    [format!("{name}_attention"), format!("{name}_kv_write")]
}

/// Attention and the KV write of the same pass, in the order that leaves the pool where it is.
pub(super) fn attention_write(
    name: &str,
    attention: &Function,
    kv_write: &Function,
) -> Result<Function, KernelError> {
    let [q, kv, _, pages, meta, first_page] = attention.inputs() else {
        return Err(operands(attention, 6));
    };
    let [_, _, _, slots, _] = kv_write.inputs() else {
        return Err(operands(kv_write, 5));
    };
    let context = AttentionWriteContext {
        name,
        types: AttentionWriteTypes {
            q: q.to_string(),
            kv: kv.to_string(),
            pages: pages.to_string(),
            meta: meta.to_string(),
            slots: slots.to_string(),
        },
        attention: attention.text(),
        kv_write: kv_write.text(),
    };
    let inputs = [q, kv, kv, pages, meta, slots, first_page].map(Clone::clone).to_vec();
    let outputs = vec![q.clone(), pages.clone()];
    Function::new("attention_write", name, render::attention_write(&context), inputs, outputs, Some((3, 1)))
}

fn operands(function: &Function, found: usize) -> KernelError {
    KernelError::Operands { function: function.name().to_owned(), found, expected: function.inputs().len() }
}

/// Positions of a bucket's rows out of the planner's words: `(meta) -> [tokens]` i32, 0 on rows of padding.
///
/// `meta [meta_words]` i32 is that of attention. A token's position is its prefix and lead, then its place in its segment;
/// rotary embeddings turn by it.
///
/// # Errors
/// The name is no MLIR symbol or `main`, or the bucket is none that a planner makes.
pub fn positions(name: &str, bucket: &Bucket) -> Result<Function, KernelError> {
    sizes::bucket(bucket)?;
    let rendered = render::positions(name, bucket.tokens, bucket.meta_words);
    let words = |n| vec![TensorType::new(DType::I32, &[n])];
    Function::new("positions", name, rendered, words(bucket.meta_words), words(bucket.tokens), None)
}
