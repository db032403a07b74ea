use half::bf16;

/// Where a same-precision evaluation of attention rounds. Arithmetic is f32 in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// Nowhere beyond f32.
    F32,
    /// The result, once, to bf16: what the portable kernel does with bf16 inputs.
    Bf16Result,
    /// The probabilities `exp(s - max)` to bf16 before their product with V, and the result to bf16: what
    /// matrix units with bf16 operands do. The sum that normalises is of the unrounded probabilities.
    Bf16Operands,
}

impl Rounding {
    pub(super) fn probability(self, p: f32) -> f32 {
        match self {
            Rounding::F32 | Rounding::Bf16Result => p,
            Rounding::Bf16Operands => bf16::from_f32(p).to_f32(),
        }
    }

    pub(super) fn result(self, r: f32) -> f32 {
        match self {
            Rounding::F32 => r,
            Rounding::Bf16Result | Rounding::Bf16Operands => bf16::from_f32(r).to_f32(),
        }
    }
}
