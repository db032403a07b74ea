/// The arithmetic of an evaluation: `f64` or `f32`.
pub(super) trait Real: ndarray::NdFloat + std::iter::Sum {
    /// An input element (f32 or bf16) or a factor of the spec; neither type rounds it.
    fn exact(x: impl Into<f32>) -> Self;
}

impl Real for f32 {
    fn exact(x: impl Into<f32>) -> Self {
        x.into()
    }
}

impl Real for f64 {
    fn exact(x: impl Into<f32>) -> Self {
        f64::from(x.into())
    }
}

/// Sum of products, in index order.
pub(super) fn dot<R: Real, E: Copy + Into<f32>>(
    a: ndarray::ArrayView1<'_, E>,
    b: ndarray::ArrayView1<'_, E>,
) -> R {
    a.iter().zip(b).map(|(&a, &b)| R::exact(a) * R::exact(b)).sum()
}

/// The greatest of some values; minus infinity of none.
pub(super) fn greatest<R: Real>(values: &[R]) -> R {
    values.iter().copied().fold(R::neg_infinity(), R::max)
}
