//! Rules of the compiler about the alignment of accesses, checked without running anything.

use super::location::Location;
use std::fmt;

/// What an integer is known to be divisible by. Zero stands for the number zero, which everything divides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Divisor(u64);

impl Divisor {
    pub(crate) const ONE: Divisor = Divisor(1);

    pub(crate) fn of(value: i64) -> Divisor {
        Divisor(value.unsigned_abs())
    }

    pub(crate) fn divides_by(self, n: u64) -> bool {
        self.0.is_multiple_of(n)
    }

    pub(crate) fn sum(self, other: Divisor) -> Divisor {
        let (mut a, mut b) = (self.0, other.0);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Divisor(a)
    }

    /// Saturates to a power of two, so that a wrapped product keeps the claim.
    pub(crate) fn product(self, other: Divisor) -> Divisor {
        match self.0.checked_mul(other.0) {
            Some(p) if p < 1 << 31 => Divisor(p),
            _ => Divisor(1 << (self.0.trailing_zeros() + other.0.trailing_zeros()).min(31)),
        }
    }

    pub(crate) fn shifted(self, by: i64) -> Divisor {
        self.product(Divisor(1 << by.clamp(0, 31)))
    }
}

/// A rule of the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlignmentRule {
    /// A dynamic index on the second-minor dimension must be a provable multiple of 8. A single `f32` row may
    /// stand anywhere.
    DynamicSublane,
    /// A dynamic index on the minor dimension must be a provable multiple of 128.
    DynamicLane,
    /// An offset of `tpu.memref_slice` on a tiled dimension must be a provable multiple of the tile: 8 rows, 128
    /// lanes.
    SliceOffset,
    /// A size of `tpu.memref_slice` on a tiled dimension must be the whole dimension or a multiple of the tile.
    SliceSize,
    /// `tpu.strided_load` and `tpu.strided_store` need a memref whose last dimension is 128.
    StridedMinor,
}

impl fmt::Display for AlignmentRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AlignmentRule::DynamicSublane => {
                "a dynamic index on the second-minor dimension must be a provable multiple of 8"
            }
            AlignmentRule::DynamicLane => {
                "a dynamic index on the minor dimension must be a provable multiple of 128"
            }
            AlignmentRule::SliceOffset => {
                "a slice offset on a tiled dimension must be a provable multiple of the tile"
            }
            AlignmentRule::SliceSize => {
                "a slice size on a tiled dimension must be the dimension or a multiple of the tile"
            }
            AlignmentRule::StridedMinor => "a strided access needs a last dimension of 128",
        })
    }
}

/// An access that the compiler is known to refuse.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AlignmentFinding {
    /// The op.
    pub location: Location,
    /// Its name.
    pub op: String,
    /// The rule that it breaks.
    pub rule: AlignmentRule,
    /// The dimension.
    pub dimension: usize,
}

pub(crate) type Finding = AlignmentFinding;

impl fmt::Display for AlignmentFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: '{}': dimension {}: {}", self.location, self.op, self.dimension, self.rule)
    }
}
