//! `arith` and `math` ops that act on each lane alone.

use super::float::{float1, float2, maximum};
use super::int::{division, int1, int2};
use super::math;
use crate::emulator::alignment::Divisor;
use crate::emulator::builder::{Builder, Built};
use crate::emulator::error::EmulatorError;
use crate::emulator::text::ast::Op;
use crate::emulator::value::unsigned;

pub(super) fn build<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    use math::through_f64 as wide;
    match op.name {
        "arith.addf" => float2(b, op, |x, y| x + y),
        "arith.subf" => float2(b, op, |x, y| x - y),
        "arith.mulf" => float2(b, op, |x, y| x * y),
        "arith.divf" => float2(b, op, |x, y| x / y),
        "arith.remf" => float2(b, op, |x, y| x % y),
        "arith.maximumf" => float2(b, op, maximum),
        "arith.minimumf" => float2(b, op, |x, y| -maximum(-x, -y)),
        "arith.maxnumf" => float2(b, op, f32::max),
        "arith.minnumf" => float2(b, op, f32::min),
        "math.powf" => float2(b, op, |x, y| f64::from(x).powf(f64::from(y)) as f32),
        "arith.negf" => float1(b, op, |x| -x),
        "math.absf" => float1(b, op, f32::abs),
        "math.ceil" => float1(b, op, f32::ceil),
        "math.floor" => float1(b, op, f32::floor),
        "math.roundeven" => float1(b, op, f32::round_ties_even),
        "math.sqrt" => float1(b, op, f32::sqrt),
        "math.rsqrt" => float1(b, op, wide(|x| 1.0 / x.sqrt())),
        "math.exp" => float1(b, op, math::exp),
        "math.exp2" => float1(b, op, math::exp2),
        "math.log" => float1(b, op, wide(f64::ln)),
        "math.log1p" => float1(b, op, wide(f64::ln_1p)),
        "math.log2" => float1(b, op, wide(f64::log2)),
        "math.tanh" => float1(b, op, wide(f64::tanh)),
        "math.sin" => float1(b, op, wide(f64::sin)),
        "math.cos" => float1(b, op, wide(f64::cos)),
        "math.tan" => float1(b, op, wide(f64::tan)),
        "math.erf" => float1(b, op, wide(math::erf)),
        "arith.addi" => int2(b, op, |x, y, _| x.wrapping_add(y), Divisor::sum),
        "arith.subi" => int2(b, op, |x, y, _| x.wrapping_sub(y), Divisor::sum),
        "arith.muli" => int2(b, op, |x, y, _| x.wrapping_mul(y), Divisor::product),
        "arith.andi" => int2(b, op, |x, y, _| x & y, unknown),
        "arith.ori" => int2(b, op, |x, y, _| x | y, unknown),
        "arith.xori" => int2(b, op, |x, y, _| x ^ y, unknown),
        "arith.maxsi" => int2(b, op, |x, y, _| x.max(y), Divisor::sum),
        "arith.minsi" => int2(b, op, |x, y, _| x.min(y), Divisor::sum),
        "arith.maxui" => {
            int2(b, op, |x, y, n| if unsigned(x, n) > unsigned(y, n) { x } else { y }, Divisor::sum)
        }
        "arith.minui" => {
            int2(b, op, |x, y, n| if unsigned(x, n) < unsigned(y, n) { x } else { y }, Divisor::sum)
        }
        "arith.shli" => {
            let by = op.operands.get(1).is_some().then(|| b.operand(op, 1)).transpose()?;
            let by = by.and_then(|o| b.constant_of(o.arg));
            let shifted = move |x: Divisor, _: Divisor| by.map_or(Divisor::ONE, |k| x.shifted(k));
            int2(b, op, |x, y, n| if unsigned(y, n) < u64::from(n) { x << y } else { 0 }, shifted)
        }
        "arith.shrsi" => int2(b, op, |x, y, n| x >> unsigned(y, n).min(u64::from(n) - 1), unknown),
        "arith.shrui" => {
            let shift = |x, y, n| {
                if unsigned(y, n) < u64::from(n) { (unsigned(x, n) >> unsigned(y, n)) as i64 } else { 0 }
            };
            int2(b, op, shift, unknown)
        }
        "arith.divsi" => division(b, op, |x, y, _| x.wrapping_div(y)),
        "arith.remsi" => division(b, op, |x, y, _| x.wrapping_rem(y)),
        "arith.divui" => division(b, op, |x, y, n| (unsigned(x, n) / unsigned(y, n)) as i64),
        "arith.remui" => division(b, op, |x, y, n| (unsigned(x, n) % unsigned(y, n)) as i64),
        "arith.floordivsi" => division(b, op, |x, y, _| floor_div(x, y)),
        "arith.ceildivsi" => division(b, op, |x, y, _| floor_div(x.wrapping_neg(), y).wrapping_neg()),
        "math.absi" => int1(b, op, |x, _| x.wrapping_abs()),
        "math.ctpop" => int1(b, op, |x, n| i64::from(unsigned(x, n).count_ones())),
        "math.ctlz" => int1(b, op, |x, n| i64::from(unsigned(x, n).leading_zeros()) - i64::from(64 - n)),
        _ => Err(EmulatorError::UnknownOp { location: op.location, op: op.name.to_owned() }),
    }
}

fn floor_div(x: i64, y: i64) -> i64 {
    let (quotient, rest) = (x.wrapping_div(y), x.wrapping_rem(y));
    if rest != 0 && (rest < 0) != (y < 0) { quotient - 1 } else { quotient }
}

fn unknown(_: Divisor, _: Divisor) -> Divisor {
    Divisor::ONE
}
