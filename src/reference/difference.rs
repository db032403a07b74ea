use ndarray::{ArrayView, ArrayView1, Dimension};

/// How far `result` is from `reference`, relative: the greatest over rows of `max|a - b| / max|b|`.
///
/// A row is the last axis: one head of one token, so that a wrong row cannot hide behind large ones, while a
/// near-zero element is measured against its row. A row of zeros must be matched exactly. NaN anywhere, or a
/// difference from a row of zeros, gives infinity.
pub fn relative_error<D: Dimension, E: Copy + Into<f64>>(
    result: ArrayView<'_, E, D>,
    reference: ArrayView<'_, f64, D>,
) -> f64 {
    greatest_over_rows(result, reference, |difference, size| match difference {
        0.0 => 0.0,
        d => d / size,
    })
}

/// How far `result` is from `reference`, absolute: `max|a - b|`; the measure for log-probs. NaN gives infinity.
pub fn absolute_error<D: Dimension, E: Copy + Into<f64>>(
    result: ArrayView<'_, E, D>,
    reference: ArrayView<'_, f64, D>,
) -> f64 {
    greatest_over_rows(result, reference, |difference, _| difference)
}

/// Greatest `measure(max|a - b|, max|b|)` of a row.
fn greatest_over_rows<D: Dimension, E: Copy + Into<f64>>(
    result: ArrayView<'_, E, D>,
    reference: ArrayView<'_, f64, D>,
    measure: impl Fn(f64, f64) -> f64,
) -> f64 {
    assert_eq!(result.shape(), reference.shape());
    let of_row = |(a, b): (ArrayView1<'_, E>, ArrayView1<'_, f64>)| {
        let difference = a.iter().zip(b).map(|(&a, &b)| (a.into() - b).abs()).fold(0.0, max_or_infinity);
        let size = b.iter().map(|b| b.abs()).fold(0.0, f64::max);
        measure(difference, size)
    };
    result.rows().into_iter().zip(reference.rows()).map(of_row).fold(0.0, max_or_infinity)
}

/// `f64::max` forgets NaN; a measure must not.
fn max_or_infinity(a: f64, b: f64) -> f64 {
    if b.is_nan() { f64::INFINITY } else { a.max(b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn is_per_row_and_minds_nan_and_zero_rows() {
        let reference = array![[100.0, 50.0], [0.01, -0.02], [0.0, 0.0]];
        assert_eq!(relative_error(reference.view(), reference.view()), 0.0);
        let mut result = reference.mapv(|x| x as f32);
        assert!(relative_error(result.view(), reference.view()) < 1e-7);
        result[[1, 0]] = 0.03;
        assert!((relative_error(result.view(), reference.view()) - 1.0).abs() < 1e-6);
        assert!((absolute_error(result.view(), reference.view()) - 0.02).abs() < 1e-6);
        result[[2, 1]] = 1e-30;
        assert_eq!(relative_error(result.view(), reference.view()), f64::INFINITY);
        result[[2, 1]] = f32::NAN;
        assert_eq!(absolute_error(result.view(), reference.view()), f64::INFINITY);
    }
}
