use half::bf16;
use ndarray::{Array, Array3, Array5, Axis, Dimension, ShapeBuilder, s};
use tpu_rpa::reference::AttentionInputs;
use tpu_rpa::spec::AttentionSpec;

use super::{Batch, Random};

/// Element type of the tensors of a test.
pub trait Element: Copy + Into<f32> + Into<f64> + std::fmt::Debug + 'static {
    fn from_f32(x: f32) -> Self;
}

impl Element for f32 {
    fn from_f32(x: f32) -> Self {
        x
    }
}

impl Element for bf16 {
    fn from_f32(x: f32) -> Self {
        bf16::from_f32(x)
    }
}

/// Inputs of an attention call: N(0, 1) where a token is, NaN everywhere else.
#[derive(Clone, Debug)]
pub struct Tensors<E> {
    pub q: Array3<E>,
    pub k: Array3<E>,
    pub v: Array3<E>,
    /// The batch's pages and, before and behind them, those of other layers: NaN.
    pub kv_pages: Array5<E>,
    /// Where the batch's pages start.
    pub first_page: i32,
    /// How many there are.
    pub layer_pages: usize,
}

impl<E: Element> Tensors<E> {
    /// Tensors of `rows >= batch.total_tokens` rows. NaN in padding rows, in pages that no prefix names, and in
    /// slots behind the prefix in its last page. There is at least one page, for devices take no empty tensor.
    pub fn random(spec: &AttentionSpec, batch: &Batch, rows: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (q_heads, kv_heads, head_dim) = (spec.q_heads(), spec.kv_heads(), spec.head_dim());
        let mut stream = |heads| {
            let mut rows = normal::<E, _, _>((rows, heads, head_dim), &mut random);
            rows.slice_mut(s![batch.total_tokens.., .., ..]).fill(E::from_f32(f32::NAN));
            rows
        };
        let (q, k, v) = (stream(q_heads), stream(kv_heads), stream(kv_heads));
        let layer_pages = batch.pool_pages.max(1);
        let (before, behind) = (seed as usize % 3, seed as usize / 3 % 2);
        let shape = (before + layer_pages + behind, 2, kv_heads, spec.page_size(), head_dim);
        let mut kv_pages = normal::<E, _, _>(shape, &mut random);
        let used = batch.used_slots();
        for (page, mut slots) in kv_pages.axis_iter_mut(Axis(0)).enumerate() {
            let used = page.checked_sub(before).and_then(|page| used.get(page).copied()).unwrap_or(0);
            slots.slice_mut(s![.., .., used.., ..]).fill(E::from_f32(f32::NAN));
        }
        Tensors { q, k, v, kv_pages, first_page: before as i32, layer_pages }
    }

    /// Pages of the whole pool.
    pub fn pool_pages(&self) -> usize {
        self.kv_pages.dim().0
    }

    /// The view that the reference takes.
    pub fn inputs(&self) -> AttentionInputs<'_, E> {
        AttentionInputs {
            q: self.q.view(),
            k: self.k.view(),
            v: self.v.view(),
            kv_pages: self.kv_pages.slice(s![
                self.first_page as usize..self.first_page as usize + self.layer_pages,
                ..,
                ..,
                ..,
                ..
            ]),
        }
    }
}

/// A tensor of N(0, 1).
pub fn normal<E: Element, D: Dimension, S: ShapeBuilder<Dim = D>>(
    shape: S,
    random: &mut Random,
) -> Array<E, D> {
    Array::from_shape_simple_fn(shape, || E::from_f32(random.normal()))
}
