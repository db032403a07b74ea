use super::super::function::Function;
use super::super::portable::{labels_context, labels_inputs};
use super::super::tensor_type::TensorType;
use super::super::{KernelError, render, sizes};
use super::{MAX_ROWS, VMEM_LIMIT, encoded, text};
use crate::spec::{DType, LabelLogprobsSpec, LabelSet};

/// VMEM for windows, logits and probabilities, in bytes; the rest of [`VMEM_LIMIT`] is the compiler's.
const BLOCK_BUDGET: usize = 40 << 20;

/// Rows of the result are whole sublane tiles.
const SUBLANES: usize = 8;

/// How the label softmax cuts its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LabelSoftmaxTiling {
    /// Hidden rows a step, a multiple of 128: rows lie on lanes.
    pub row_block: usize,
    /// Rows, padding included: whole row blocks.
    pub padded_rows: usize,
    /// Labels a step: 1 if every row has its own, else a multiple of 8.
    pub label_block: usize,
    /// Steps over the labels.
    pub label_steps: usize,
    /// Rows of the result: labels, padded to a multiple of 8, and to whole blocks if rows share them.
    pub label_rows: usize,
}

impl LabelSoftmaxTiling {
    /// Blocks for a spec and a number of rows, from 1 to 2147483136. Refuses a hidden size, and then a number of labels, with which the
    /// windows and logits of 128 rows do not fit into 40 MiB.
    pub fn new(spec: &LabelLogprobsSpec, rows: usize) -> Result<Self, KernelError> {
        sizes::within("rows", rows, 1, MAX_ROWS)?;
        let per_row = matches!(spec.labels(), LabelSet::PerRow(_));
        let labels = spec.labels().len();
        let label_block = if per_row { 1 } else { labels.next_multiple_of(SUBLANES).min(128) };
        let label_steps = labels.div_ceil(label_block);
        let label_rows = (label_steps * label_block).next_multiple_of(SUBLANES);
        // Windows are double-buffered; logits, probabilities and a mask take a word each.
        let fits = |row_block: usize, label_rows: usize| {
            let w_rows = if per_row { row_block } else { label_block };
            let row_bytes = spec.hidden().saturating_mul(spec.dtype().size());
            let windows = (2 * (row_block + w_rows)).saturating_mul(row_bytes);
            let logits = label_rows.saturating_mul((2 * 4 + 3 * 4) * row_block) + 3 * 4 * w_rows * row_block;
            windows.saturating_add(logits) <= BLOCK_BUDGET
        };
        // The diagonal of a product is the smaller part of a larger block.
        let most_rows = if per_row { [128].as_slice() } else { [512, 256, 128].as_slice() };
        let Some(&most_rows) = most_rows.iter().find(|&&n| fits(n, label_rows)) else {
            let too_wide = !fits(128, SUBLANES);
            let (field, value) = if too_wide { ("hidden", spec.hidden()) } else { ("labels", labels) };
            let bound =
                format!("less, for 128 rows and what is made of them lie in {BLOCK_BUDGET} bytes of VMEM");
            return Err(KernelError::Shape { field, value, bound });
        };
        let row_blocks = rows.div_ceil(most_rows).max(1);
        let row_block = rows.div_ceil(row_blocks).max(1).next_multiple_of(128);
        Ok(LabelSoftmaxTiling {
            row_block,
            padded_rows: row_blocks * row_block,
            label_block,
            label_steps,
            label_rows,
        })
    }
}

/// Mosaic text of the softmax over labels; its header says what operands it takes.
pub fn label_softmax_mosaic(
    name: &str,
    spec: &LabelLogprobsSpec,
    tokens: usize,
    rows: usize,
) -> Result<String, KernelError> {
    text("label_softmax", name, render::label_softmax_mosaic(&context(name, spec, tokens, rows)?))
}

/// Softmax over labels for TPU as a StableHLO function: signature of
/// [`label_softmax`](super::super::label_softmax).
///
/// The label rows of the LM head are gathered first: `labels x hidden` elements, times the rows if each has labels of
/// its own.
pub fn label_softmax_tpu(
    name: &str,
    spec: &LabelLogprobsSpec,
    tokens: usize,
    rows: usize,
) -> Result<Function, KernelError> {
    let context = context(name, spec, tokens, rows)?;
    let text = text("label_softmax", name, render::label_softmax_mosaic(&context))?;
    let rendered = render::label_softmax_tpu(&context, &encoded(&text), VMEM_LIMIT);
    let outputs = vec![TensorType::new(DType::F32, &[rows, spec.labels().len()])];
    Function::new("label_softmax", name, rendered, labels_inputs(spec, tokens, rows), outputs, None)
}

fn context<'a>(
    name: &'a str,
    spec: &LabelLogprobsSpec,
    tokens: usize,
    rows: usize,
) -> Result<render::LabelRowsContext<'a>, KernelError> {
    let LabelSoftmaxTiling { row_block, padded_rows, label_block, label_steps, label_rows } =
        LabelSoftmaxTiling::new(spec, rows)?;
    let given = labels_context(name, spec, tokens, rows, 0)?;
    Ok(render::LabelRowsContext { given, padded_rows, row_block, label_block, label_steps, label_rows })
}
