//! Values of SSA slots at run time.

use super::lanes::Lanes;
use super::memory::View;
use std::sync::Arc;

/// A value. Shapes and element types are static and live in the compiled steps, not here.
///
/// Lanes of `bf16` are kept as `f32` that are representable in `bf16`; integer lanes of any width are kept
/// sign-extended; booleans are `bool`. A scalar integer of any width is `Int`, booleans being 0 and 1.
#[derive(Clone, Debug, Default)]
pub(crate) enum Value {
    /// Not yet computed, or moved out at its last use.
    #[default]
    Empty,
    Int(i64),
    Float(f32),
    Floats(Arc<Lanes<f32>>),
    Ints(Arc<Lanes<i32>>),
    Bools(Arc<Lanes<bool>>),
    Ref(Arc<View>),
}

/// Rust types that lanes of a vector are kept in.
pub(crate) trait Lane: super::lanes::Pooled {
    /// The lanes of a vector value of this kind.
    fn lanes(value: &Value) -> Option<&[Self]>;
    /// The vector, moved out of the value.
    fn take(value: Value) -> Option<Arc<Lanes<Self>>>;
    /// A value of lanes that may be shared.
    fn share(lanes: Arc<Lanes<Self>>) -> Value;

    /// A scalar of this lane type.
    fn from_scalar(value: &Value) -> Option<Self>;
    /// The lane as a scalar.
    fn into_scalar(self) -> Value;

    /// A value of new lanes.
    fn wrap(lanes: Vec<Self>) -> Value {
        Self::share(Arc::new(Lanes::from(lanes)))
    }
}

macro_rules! lane {
    ($type:ty, $vector:ident, $scalar:ident, $from:expr, $into:expr) => {
        impl Lane for $type {
            fn from_scalar(value: &Value) -> Option<Self> {
                if let Value::$scalar(x) = value { Some($from(*x)) } else { None }
            }
            fn into_scalar(self) -> Value {
                Value::$scalar($into(self))
            }
            fn lanes(value: &Value) -> Option<&[Self]> {
                if let Value::$vector(v) = value { Some(v) } else { None }
            }
            fn take(value: Value) -> Option<Arc<Lanes<Self>>> {
                if let Value::$vector(v) = value { Some(v) } else { None }
            }
            fn share(lanes: Arc<Lanes<Self>>) -> Value {
                Value::$vector(lanes)
            }
        }
    };
}
lane!(f32, Floats, Float, |x| x, |x| x);
lane!(i32, Ints, Int, |x| x as i32, i64::from);
lane!(bool, Bools, Int, |x| x != 0, i64::from);

/// Rounds to the nearest `bf16`, ties to even; NaN stays NaN.
#[inline(always)]
pub(crate) fn round_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7FFF + ((bits >> 16) & 1))) & 0xFFFF_0000;
    // A NaN whose payload is in the lower half would round to infinity.
    f32::from_bits(if x.is_nan() { (bits & 0xFFFF_0000) | 0x0040_0000 } else { rounded })
}

/// Wraps to a signed integer of so many bits; one bit is a boolean, 0 or 1.
#[inline(always)]
pub(crate) fn wrap_int(x: i64, bits: u32) -> i64 {
    match bits {
        1 => x & 1,
        64 => x,
        _ => (x << (64 - bits)) >> (64 - bits),
    }
}

/// The bits of a signed integer read as unsigned.
#[inline(always)]
pub(crate) fn unsigned(x: i64, bits: u32) -> u64 {
    if bits >= 64 { x as u64 } else { (x as u64) & ((1 << bits) - 1) }
}
