/// Scores of one item: probabilities over the whole vocabulary, or over its labels alone.
pub(super) fn scores(logprobs: &[f32], over_labels: bool) -> Vec<f32> {
    if !over_labels {
        return logprobs.iter().map(|&l| f64::from(l).exp() as f32).collect();
    }
    let max = logprobs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logprobs.iter().map(|&l| (f64::from(l) - f64::from(max)).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| (w / total) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::scores;

    #[test]
    fn labels_softmax_survives_tiny_probabilities() {
        let s = scores(&[-1000.0, -1000.0 + 2f32.ln()], true);
        assert!((s[0] - 1.0 / 3.0).abs() < 1e-5 && (s[1] - 2.0 / 3.0).abs() < 1e-5, "{s:?}");
        assert_eq!(scores(&[-80.0], true), [1.0]);
    }

    #[test]
    fn without_softmax_scores_are_probabilities() {
        assert_eq!(scores(&[0.0, -1000.0], false), [1.0, 0.0]);
    }
}
