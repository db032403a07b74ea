use ndarray::{Array3, s};
use tpu_rpa::reference::{self, Rounding, relative_error};
use tpu_rpa::spec::AttentionSpec;

use super::{Batch, Element, Tensors};

/// How far an attention result, and a plain evaluation in the same precision, are from f64.
#[derive(Clone, Copy, Debug)]
pub struct Errors {
    pub kernel: f64,
    pub plain: f64,
}

impl Errors {
    /// Of `found`, against a plain evaluation with roundings where `rounding` says.
    pub fn new<A: Copy + Into<f64>, E: Element>(
        spec: &AttentionSpec,
        batch: &Batch,
        tensors: &Tensors<E>,
        found: &Array3<A>,
        rounding: Rounding,
    ) -> Self {
        let groups = batch.groups();
        let exact = reference::attention(spec, &tensors.inputs(), &groups);
        let plain = reference::attention_rounded(spec, &tensors.inputs(), &groups, rounding);
        Errors {
            kernel: relative_error(found.view(), exact.view()),
            plain: relative_error(plain.view(), exact.view()),
        }
    }

    /// No worse than twice the plain evaluation, which may be exact by luck on a few rows: `luck` is allowed besides.
    pub fn check(&self, luck: f64) -> Result<(), String> {
        let Errors { kernel, plain } = self;
        let bound = 2.0 * plain + luck;
        if *kernel <= bound {
            Ok(())
        } else {
            Err(format!("relative error {kernel:e}, plain {plain:e}, bound {bound:e}"))
        }
    }
}

/// Bits of some rows.
pub fn bits(a: &Array3<f32>, rows: std::ops::Range<usize>) -> Vec<u32> {
    a.slice(s![rows, .., ..]).iter().map(|x| x.to_bits()).collect()
}
