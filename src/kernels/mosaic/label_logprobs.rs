use super::super::function::Function;
use super::super::portable::{labels_context, labels_inputs};
use super::super::tensor_type::TensorType;
use super::super::{KernelError, render, sizes};
use super::{MAX_ROWS, VMEM_LIMIT, encoded, text};
use crate::spec::{DType, LabelLogprobsSpec};

/// VMEM for windows and blocks of logits, in bytes; the rest of [`VMEM_LIMIT`] is the compiler's.
const BLOCK_BUDGET: usize = 40 << 20;

/// Blocks of the LM head in VMEM: a ring of four, and the vocabulary's last. Hidden rows have two buffers.
const HEAD_BUFFERS: usize = 5;

/// Tokens of the vocabulary and, at most, rows of a step, best first.
const BLOCKS: [(usize, usize); 6] =
    [(2048, 512), (1024, 512), (512, 512), (256, 512), (256, 256), (128, 128)];

/// What a label kernel gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LabelOutput {
    /// Log-probabilities.
    Logprobs,
    /// Maximum, sum and logits of one shard of the vocabulary.
    Partials,
}

impl LabelOutput {
    /// Columns in front of the labels.
    const fn columns(self) -> usize {
        match self {
            LabelOutput::Logprobs => 0,
            LabelOutput::Partials => 2,
        }
    }
}

/// How the label kernel cuts its work.
///
/// Blocks of the vocabulary depend on the spec alone, so a row's sum is grouped the same way whatever is scored
/// beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LabelTiling {
    /// Tokens of the vocabulary a step.
    pub vocab_block: usize,
    /// Rows a step, a multiple of 128: rows lie on lanes.
    pub row_block: usize,
    /// Rows, padding included: whole row blocks.
    pub padded_rows: usize,
    /// Rows of the label operand and of the result: one a label, columns of [`LabelOutput::Partials`] in front,
    /// padded to a multiple of 8.
    pub label_rows: usize,
}

impl LabelTiling {
    /// Labels of a row at most: each is an unrolled pass over a block of logits.
    pub const MAX_LABELS: usize = 32;

    /// Blocks for a spec and a number of rows, from 1 to 2147483136. Refuses more than 32 labels, and a hidden size of which five
    /// buffers of 128 rows of the LM head and two of the hidden rows do not fit into 40 MiB.
    pub fn new(spec: &LabelLogprobsSpec, rows: usize, output: LabelOutput) -> Result<Self, KernelError> {
        sizes::within("rows", rows, 1, MAX_ROWS)?;
        let labels = spec.labels().len();
        if labels > Self::MAX_LABELS {
            let bound = format!("at most {}, for the TPU kernel unrolls them", Self::MAX_LABELS);
            return Err(KernelError::Shape { field: "labels", value: labels, bound });
        }
        let row_bytes = spec.hidden().saturating_mul(spec.dtype().size());
        // A block of logits lies in VMEM, and the compiler spills up to three words for each.
        let fits = |&(vocab, rows): &(usize, usize)| {
            (HEAD_BUFFERS * vocab + 2 * rows).saturating_mul(row_bytes).saturating_add(16 * vocab * rows)
                <= BLOCK_BUDGET
        };
        let Some((vocab_block, most_rows)) = BLOCKS.into_iter().find(|b| fits(b)) else {
            let most = (BLOCK_BUDGET - 16 * 128 * 128) / ((HEAD_BUFFERS + 2) * 128 * spec.dtype().size());
            let bound = format!(
                "at most {most}, for {HEAD_BUFFERS} + 2 buffers of 128 rows of the operands lie in VMEM"
            );
            return Err(KernelError::Shape { field: "hidden", value: spec.hidden(), bound });
        };
        let row_blocks = rows.div_ceil(most_rows).max(1);
        let row_block = rows.div_ceil(row_blocks).max(1).next_multiple_of(128);
        Ok(LabelTiling {
            vocab_block: vocab_block.min(spec.vocab().next_multiple_of(128)),
            row_block,
            padded_rows: row_blocks * row_block,
            label_rows: (output.columns() + labels).next_multiple_of(8),
        })
    }
}

/// Mosaic text of label log-probs; its header says what operands it takes.
pub fn label_logprobs_mosaic(
    name: &str,
    spec: &LabelLogprobsSpec,
    tokens: usize,
    rows: usize,
    output: LabelOutput,
) -> Result<String, KernelError> {
    let context = context(name, spec, tokens, rows, output)?;
    text("label_logprobs", name, render::label_logprobs_mosaic(&context))
}

/// Label log-probs for TPU as a StableHLO function: signature of
/// [`label_logprobs`](super::super::label_logprobs).
pub fn label_logprobs_tpu(
    name: &str,
    spec: &LabelLogprobsSpec,
    tokens: usize,
    rows: usize,
) -> Result<Function, KernelError> {
    function(name, spec, tokens, rows, LabelOutput::Logprobs)
}

/// Label log-probs over one shard of a vocabulary, for TPU: `(hidden, lm_head, rows, labels) -> [rows, 2 + labels]`
/// f32, of every row the maximum `m` and the sum `l` of `exp(logit - m)` over the shard, then the labels' logits.
///
/// Labels count from the shard's first token, and one that is not in `0..vocab` is another shard's: its logit is 0.
/// Over all shards, with `M` the greatest `m`, a label's log-probability is
/// `(sum of logits - M) - log(sum of l * exp(m - M))`.
pub fn label_partials_tpu(
    name: &str,
    spec: &LabelLogprobsSpec,
    tokens: usize,
    rows: usize,
) -> Result<Function, KernelError> {
    function(name, spec, tokens, rows, LabelOutput::Partials)
}

fn function(
    name: &str,
    spec: &LabelLogprobsSpec,
    tokens: usize,
    rows: usize,
    output: LabelOutput,
) -> Result<Function, KernelError> {
    let context = context(name, spec, tokens, rows, output)?;
    let text = text("label_logprobs", name, render::label_logprobs_mosaic(&context))?;
    let rendered = render::label_logprobs_tpu(&context, &encoded(&text), VMEM_LIMIT);
    let outputs = vec![TensorType::new(DType::F32, &[rows, output.columns() + spec.labels().len()])];
    Function::new("label_logprobs", name, rendered, labels_inputs(spec, tokens, rows), outputs, None)
}

fn context<'a>(
    name: &'a str,
    spec: &LabelLogprobsSpec,
    tokens: usize,
    rows: usize,
    output: LabelOutput,
) -> Result<render::LabelBlocksContext<'a>, KernelError> {
    let LabelTiling { vocab_block, row_block, padded_rows, label_rows } =
        LabelTiling::new(spec, rows, output)?;
    Ok(render::LabelBlocksContext {
        given: labels_context(name, spec, tokens, rows, vocab_block)?,
        padded_rows,
        row_block,
        label_rows,
        partial: output == LabelOutput::Partials,
    })
}
