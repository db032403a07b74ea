//! Sizes of any value, at every door that takes one: what comes back is what exact arithmetic says, or an error of one line.

mod batches;
mod kernels;
mod pools;
#[cfg(feature = "runtime")]
mod runtime;

use proptest::prelude::*;

/// Sizes around which arithmetic goes wrong: small ones, powers of two and what is next to them, the greatest ones, any.
fn edge() -> impl Strategy<Value = usize> {
    let near_power = (0..usize::BITS, -2..=2i64);
    prop_oneof![
        2 => 0..70usize,
        2 => near_power.prop_map(|(bits, by)| (1usize << bits).wrapping_add_signed(by as isize)),
        1 => (0..600usize).prop_map(|by| usize::MAX - by),
        1 => any::<usize>(),
        // In and near the bounds of most.
        2 => (1usize..1 << 20, 0..12u32).prop_map(|(n, bits)| n << bits),
    ]
}

const MOST: u128 = i32::MAX as u128;

/// An error is one line that holds the value which was refused.
fn tells(error: &dyn std::error::Error, values: &[usize]) {
    let text = error.to_string();
    assert!(!text.contains('\n') && !text.is_empty(), "{text:?}");
    assert!(values.iter().any(|value| text.contains(&value.to_string())), "{text:?} has none of {values:?}");
}
