//! Loops over all lanes of a vector, compiled for the widest vector unit that the machine has.

use crate::emulator::lanes::room;
use crate::emulator::machine::{Arg, Machine};
use crate::emulator::simd::vectorised;
use crate::emulator::types::Elem;
use crate::emulator::value::{Lane, Value};
use std::sync::Arc;

/// `f` of every lane, in place if nothing else holds the vector.
#[inline(always)]
pub(super) fn map<T: Lane, U: Lane>(m: &mut Machine<'_>, a: Arg, f: impl Fn(T) -> U) -> Value {
    let input = m.lanes::<T>(a);
    let mut out = room(input.len());
    vectorised(
        #[inline(always)]
        || out.extend(input.iter().map(|&x| f(x))),
    );
    U::wrap(out)
}

/// `f` of every lane of one type, in place if nothing else holds the vector.
#[inline(always)]
pub(super) fn map_same<T: Lane>(m: &mut Machine<'_>, a: Arg, f: impl Fn(T) -> T) -> Value {
    if !a.last {
        return map(m, a, f);
    }
    let mut lanes = m.take_lanes::<T>(a);
    if Arc::get_mut(&mut lanes).is_none() {
        let mut out = room(lanes.len());
        vectorised(
            #[inline(always)]
            || out.extend(lanes.iter().map(|&x| f(x))),
        );
        return T::wrap(out);
    }
    if let Some(own) = Arc::get_mut(&mut lanes) {
        vectorised(
            #[inline(always)]
            || own.iter_mut().for_each(|x| *x = f(*x)),
        );
    }
    T::share(lanes)
}

/// `f` of all pairs of lanes.
#[inline(always)]
pub(super) fn zip<T: Lane, U: Lane>(m: &mut Machine<'_>, a: Arg, b: Arg, f: impl Fn(T, T) -> U) -> Value {
    let (x, y) = (m.lanes::<T>(a), m.lanes::<T>(b));
    U::wrap(zipped(x, y, f))
}

#[inline(always)]
fn zipped<T: Lane, U: Lane>(x: &[T], y: &[T], f: impl Fn(T, T) -> U) -> Vec<U> {
    let mut out = room(x.len());
    vectorised(
        #[inline(always)]
        || out.extend(x.iter().zip(y).map(|(&x, &y)| f(x, y))),
    );
    out
}

/// `f` of all pairs of lanes of one type, in the place of whichever operand is free.
#[inline(always)]
pub(super) fn zip_same<T: Lane>(m: &mut Machine<'_>, a: Arg, b: Arg, f: impl Fn(T, T) -> T) -> Value {
    if a.slot != b.slot {
        for (own, other, swapped) in [(a, b, false), (b, a, true)] {
            if !own.last {
                continue;
            }
            let mut lanes = m.take_lanes::<T>(own);
            let Some(free) = Arc::get_mut(&mut lanes) else {
                let y = m.lanes::<T>(other);
                let (x, y) = if swapped { (y, &lanes[..]) } else { (&lanes[..], y) };
                return T::wrap(zipped(x, y, f));
            };
            let y = m.lanes::<T>(other);
            vectorised(
                #[inline(always)]
                || {
                    if swapped {
                        free.iter_mut().zip(y).for_each(|(x, &y)| *x = f(y, *x));
                    } else {
                        free.iter_mut().zip(y).for_each(|(x, &y)| *x = f(*x, y));
                    }
                },
            );
            return T::share(lanes);
        }
    }
    zip(m, a, b, f)
}

/// Lane type that holds vectors of an element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneKind {
    Float,
    Int,
    Bool,
}

impl From<Elem> for LaneKind {
    fn from(elem: Elem) -> Self {
        match elem {
            Elem::F32 | Elem::Bf16 => LaneKind::Float,
            Elem::I1 => LaneKind::Bool,
            _ => LaneKind::Int,
        }
    }
}

/// Expands an expression once for each lane type and picks the one that holds vectors of an element type.
macro_rules! for_lane {
    ($elem:expr, $lane:ident => $body:expr) => {
        match $crate::emulator::ops::lanes::LaneKind::from($elem) {
            $crate::emulator::ops::lanes::LaneKind::Float => {
                type $lane = f32;
                $body
            }
            $crate::emulator::ops::lanes::LaneKind::Int => {
                type $lane = i32;
                $body
            }
            $crate::emulator::ops::lanes::LaneKind::Bool => {
                type $lane = bool;
                $body
            }
        }
    };
}
pub(super) use for_lane;
