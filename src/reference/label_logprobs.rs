use ndarray::{Array2, ArrayView2};

use super::real::{Real, dot, greatest};

/// Token ids to score rows for.
#[derive(Clone, Copy, Debug)]
pub enum Labels<'a> {
    /// One list for all rows.
    Shared(&'a [i32]),
    /// A list a row: `[rows, labels]`.
    PerRow(ArrayView2<'a, i32>),
}

impl Labels<'_> {
    fn of_row(&self, row: usize) -> Vec<usize> {
        match self {
            Labels::Shared(ids) => ids.iter().map(|&id| id as usize).collect(),
            Labels::PerRow(ids) => ids.row(row).iter().map(|&id| id as usize).collect(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Labels::Shared(ids) => ids.len(),
            Labels::PerRow(ids) => ids.ncols(),
        }
    }
}

/// Log-probability of every label among the whole vocabulary, in f64: `[rows, labels]`.
///
/// Scores rows `rows` of `hidden` (`[T, hidden]`) with `lm_head` (`[vocab, hidden]`).
pub fn label_logprobs<E: Copy + Into<f32>>(
    hidden: ArrayView2<'_, E>,
    rows: &[i32],
    lm_head: ArrayView2<'_, E>,
    labels: Labels<'_>,
) -> Array2<f64> {
    logprobs(hidden, rows, lm_head, labels)
}

/// [`label_logprobs`] with all arithmetic in f32.
pub fn label_logprobs_f32<E: Copy + Into<f32>>(
    hidden: ArrayView2<'_, E>,
    rows: &[i32],
    lm_head: ArrayView2<'_, E>,
    labels: Labels<'_>,
) -> Array2<f32> {
    logprobs(hidden, rows, lm_head, labels)
}

/// Probability of every label among the row's labels, in f64: `[rows, labels]`; arguments as of
/// [`label_logprobs`].
pub fn label_softmax<E: Copy + Into<f32>>(
    hidden: ArrayView2<'_, E>,
    rows: &[i32],
    lm_head: ArrayView2<'_, E>,
    labels: Labels<'_>,
) -> Array2<f64> {
    softmax(hidden, rows, lm_head, labels)
}

/// [`label_softmax`] with all arithmetic in f32.
pub fn label_softmax_f32<E: Copy + Into<f32>>(
    hidden: ArrayView2<'_, E>,
    rows: &[i32],
    lm_head: ArrayView2<'_, E>,
    labels: Labels<'_>,
) -> Array2<f32> {
    softmax(hidden, rows, lm_head, labels)
}

fn logprobs<R: Real, E: Copy + Into<f32>>(
    hidden: ArrayView2<'_, E>,
    rows: &[i32],
    lm_head: ArrayView2<'_, E>,
    labels: Labels<'_>,
) -> Array2<R> {
    let mut result = Array2::zeros((rows.len(), labels.len()));
    for (i, &row) in rows.iter().enumerate() {
        let hidden = hidden.row(row as usize);
        let logits: Vec<R> = lm_head.rows().into_iter().map(|token| dot(hidden, token)).collect();
        let lse = log_sum_exp(&logits);
        for (n, id) in labels.of_row(i).into_iter().enumerate() {
            result[[i, n]] = logits[id] - lse;
        }
    }
    result
}

fn softmax<R: Real, E: Copy + Into<f32>>(
    hidden: ArrayView2<'_, E>,
    rows: &[i32],
    lm_head: ArrayView2<'_, E>,
    labels: Labels<'_>,
) -> Array2<R> {
    let mut result = Array2::zeros((rows.len(), labels.len()));
    for (i, &row) in rows.iter().enumerate() {
        let hidden = hidden.row(row as usize);
        let logits: Vec<R> = labels.of_row(i).iter().map(|&id| dot(hidden, lm_head.row(id))).collect();
        let lse = log_sum_exp(&logits);
        for (n, &logit) in logits.iter().enumerate() {
            result[[i, n]] = (logit - lse).exp();
        }
    }
    result
}

fn log_sum_exp<R: Real>(logits: &[R]) -> R {
    let max = greatest(logits);
    max + logits.iter().map(|&l| (l - max).exp()).sum::<R>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn three_token_vocabulary_by_hand() {
        // Row 1 has logits ln 1, ln 2, ln 5: probabilities 1/8, 2/8, 5/8.
        let hidden = array![[9.0f32, 9.0], [1.0, 2.0]];
        let logits = [0.0f64, 2f64.ln(), 5f64.ln()];
        let head =
            ndarray::Array2::from_shape_fn((3, 2), |(t, h)| if h == 0 { logits[t] as f32 } else { 0.0 });
        let got = label_logprobs(hidden.view(), &[1, 1], head.view(), Labels::Shared(&[2, 0]));
        assert!(absolute(got[[1, 0]], (5f64 / 8.0).ln()) && absolute(got[[0, 1]], (1f64 / 8.0).ln()));

        let per_row = array![[0, 1], [1, 2]];
        let soft = label_softmax(hidden.view(), &[1, 1], head.view(), Labels::PerRow(per_row.view()));
        assert!(absolute(soft[[0, 1]], 2.0 / 3.0) && absolute(soft[[1, 1]], 5.0 / 7.0));
    }

    fn absolute(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }
}
