//! Constants, elementwise arithmetic, comparisons and selection.

use super::lanes::{for_lane, map_same, zip, zip_same};
use super::math;
use crate::emulator::alignment::Divisor;
use crate::emulator::builder::{Builder, Operand, step};
use crate::emulator::error::Result;
use crate::emulator::fault::FaultKind;
use crate::emulator::lanes::room;
use crate::emulator::machine::{Arg, Machine, Step};
use crate::emulator::text::ast::{Attribute, Op};
use crate::emulator::types::{Elem, Type, volume};
use crate::emulator::value::{Lane, Value, round_bf16, unsigned, wrap_int};

type Built = Result<Option<Step>>;

pub(super) fn constant<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    b.expect_operands(op, 0)?;
    let ty = b.written_result(op)?;
    let Some(value) = op.attributes.get("value") else { return b.reject(op, "needs a value") };
    let elem = ty.elem();
    let value = match (&ty, value) {
        (Type::Scalar(_), literal) => scalar(literal, elem),
        (Type::Vector(shape, _), Attribute::Dense(items))
            if items.len() == 1 || items.len() == volume(shape) =>
        {
            let n = volume(shape);
            for_lane!(elem, L => {
                let lanes: Option<Vec<L>> = items.iter().map(|i| L::from_scalar(&scalar(i, elem)?)).collect();
                lanes.map(|l| {
                    let splat = || L::wrap(if l.len() == 1 { vec![l[0]; n] } else { l });
                    b.vector_constant(&ty, format!("{items:?}"), splat)
                })
            })
        }
        _ => None,
    };
    match value {
        Some(value) => {
            let out = b.result(op, ty)?;
            b.constant(out, value);
            Ok(None)
        }
        None => b.reject(op, format!("the value is no constant of type {ty}")),
    }
}

/// A literal as a scalar of an element type.
fn scalar(literal: &Attribute<'_>, elem: Elem) -> Option<Value> {
    let bits = elem.bits();
    Some(match (elem, literal) {
        (Elem::F32, Attribute::Hex(x)) => Value::Float(f32::from_bits(u32::try_from(*x).ok()?)),
        (Elem::Bf16, Attribute::Hex(x)) => {
            Value::Float(f32::from_bits(u32::from(u16::try_from(*x).ok()?) << 16))
        }
        (Elem::F32, Attribute::Float(x)) => Value::Float(*x as f32),
        (Elem::Bf16, Attribute::Float(x)) => Value::Float(round_bf16(*x as f32)),
        (Elem::I1, Attribute::Bool(x)) => Value::Int(i64::from(*x)),
        (_, Attribute::Int(x)) if elem.is_int() => Value::Int(wrap_int(*x, bits)),
        (_, Attribute::Hex(x)) if elem.is_int() => Value::Int(wrap_int(*x as i64, bits)),
        _ => return None,
    })
}

fn float(m: &Machine<'_>, arg: Arg) -> f32 {
    match &m.slots[arg.slot] {
        Value::Float(x) => *x,
        other => unreachable!("verified as a float: {other:?}"),
    }
}

/// `arith` and `math` ops that act on each lane alone.
pub(super) fn elementwise<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
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
        _ => Err(crate::emulator::EmulatorError::UnknownOp { location: op.location, op: op.name.to_owned() }),
    }
}

/// The larger, NaN if either is; +0 above -0.
#[inline(always)]
pub(super) fn maximum(x: f32, y: f32) -> f32 {
    if x.is_nan() {
        x
    } else if y.is_nan() || y > x {
        y
    } else if x == y {
        // Equal values differ at most in the sign of zero.
        f32::from_bits(x.to_bits() & y.to_bits())
    } else {
        x
    }
}

fn floor_div(x: i64, y: i64) -> i64 {
    let (quotient, rest) = (x.wrapping_div(y), x.wrapping_rem(y));
    if rest != 0 && (rest < 0) != (y < 0) { quotient - 1 } else { quotient }
}

fn unknown(_: Divisor, _: Divisor) -> Divisor {
    Divisor::ONE
}

fn float1<'t>(
    b: &mut Builder<'_, 't>,
    op: &Op<'t>,
    f: impl Fn(f32) -> f32 + Copy + Send + Sync + 'static,
) -> Built {
    let [x] = b.operands(op)?;
    let elem = x.ty.elem();
    b.require(op, elem.is_float() && !matches!(x.ty, Type::MemRef(..)), || format!("{} is no float", x.ty))?;
    let out = b.result(op, x.ty.clone())?;
    let x = (x.arg, x.ty);
    let round = elem == Elem::Bf16;
    match (x, round) {
        ((x, Type::Scalar(_)), _) => step(move |m| {
            let y = f(float(m, x));
            m.set(out, Value::Float(if round { round_bf16(y) } else { y }));
            Ok(())
        }),
        ((x, _), true) => step(move |m| {
            let y = map_same(m, x, |x| round_bf16(f(x)));
            m.set(out, y);
            Ok(())
        }),
        ((x, _), false) => step(move |m| {
            let y = map_same(m, x, f);
            m.set(out, y);
            Ok(())
        }),
    }
}

/// Two operands of one type, which `accepts` checks.
fn pair<'t>(b: &Builder<'_, 't>, op: &Op<'t>, accepts: fn(Elem) -> bool) -> Result<[Operand; 2]> {
    let [x, y] = b.operands(op)?;
    b.expect_type(op, &y.ty, &x.ty)?;
    let fits = accepts(x.ty.elem()) && !matches!(x.ty, Type::MemRef(..));
    b.require(op, fits, || format!("does not take operands of type {}", x.ty))?;
    Ok([x, y])
}

fn float2<'t>(
    b: &mut Builder<'_, 't>,
    op: &Op<'t>,
    f: impl Fn(f32, f32) -> f32 + Copy + Send + Sync + 'static,
) -> Built {
    let [x, y] = pair(b, op, Elem::is_float)?;
    let round = x.ty.elem() == Elem::Bf16;
    let out = b.result(op, x.ty.clone())?;
    let (ty, x, y) = (x.ty, x.arg, y.arg);
    match (ty, round) {
        (Type::Scalar(_), _) => step(move |m| {
            let z = f(float(m, x), float(m, y));
            m.set(out, Value::Float(if round { round_bf16(z) } else { z }));
            Ok(())
        }),
        (_, true) => step(move |m| {
            let z = zip_same(m, x, y, |x, y| round_bf16(f(x, y)));
            m.set(out, z);
            Ok(())
        }),
        (_, false) => step(move |m| {
            let z = zip_same(m, x, y, f);
            m.set(out, z);
            Ok(())
        }),
    }
}

fn int1<'t>(
    b: &mut Builder<'_, 't>,
    op: &Op<'t>,
    f: impl Fn(i64, u32) -> i64 + Copy + Send + Sync + 'static,
) -> Built {
    let [x] = b.operands(op)?;
    let elem = x.ty.elem();
    let fits = elem.is_int() && elem != Elem::I1 && !matches!(x.ty, Type::MemRef(..));
    b.require(op, fits, || format!("does not take operands of type {}", x.ty))?;
    let out = b.result(op, x.ty.clone())?;
    let (n, arg) = (elem.bits(), x.arg);
    if let Type::Scalar(_) = x.ty {
        return step(move |m| {
            let y = wrap_int(f(m.int(arg), n), n);
            m.set(out, Value::Int(y));
            Ok(())
        });
    }
    step(move |m| {
        let y = map_same(m, arg, |x: i32| wrap_int(f(i64::from(x), n), n) as i32);
        m.set(out, y);
        Ok(())
    })
}

fn int2<'t>(
    b: &mut Builder<'_, 't>,
    op: &Op<'t>,
    f: impl Fn(i64, i64, u32) -> i64 + Copy + Send + Sync + 'static,
    divisor: impl Fn(Divisor, Divisor) -> Divisor,
) -> Built {
    let [x, y] = pair(b, op, Elem::is_int)?;
    let out = b.result(op, x.ty.clone())?;
    let n = x.ty.elem().bits();
    let (ty, x, y) = (x.ty, x.arg, y.arg);
    match ty {
        Type::Scalar(_) => {
            if let (Some(a), Some(c)) = (b.constant_of(x), b.constant_of(y)) {
                b.constant(out, Value::Int(wrap_int(f(a, c, n), n)));
                return Ok(None);
            }
            let known = divisor(b.divisor(x), b.divisor(y));
            b.set_divisor(out, known);
            step(move |m| {
                let z = wrap_int(f(m.int(x), m.int(y), n), n);
                m.set(out, Value::Int(z));
                Ok(())
            })
        }
        _ if n == 1 => step(move |m| {
            let z = zip_same(m, x, y, |x: bool, y: bool| f(i64::from(x), i64::from(y), 1) & 1 != 0);
            m.set(out, z);
            Ok(())
        }),
        _ if n == 32 => step(move |m| {
            let z = zip_same(m, x, y, |x: i32, y: i32| f(i64::from(x), i64::from(y), 32) as i32);
            m.set(out, z);
            Ok(())
        }),
        _ => step(move |m| {
            let z = zip_same(m, x, y, |x: i32, y: i32| wrap_int(f(i64::from(x), i64::from(y), n), n) as i32);
            m.set(out, z);
            Ok(())
        }),
    }
}

/// Division of integers. By zero the device gives some number; here it is a fault, and 0 if that is survived.
fn division<'t>(
    b: &mut Builder<'_, 't>,
    op: &Op<'t>,
    f: impl Fn(i64, i64, u32) -> i64 + Copy + Send + Sync + 'static,
) -> Built {
    let [x, y] = pair(b, op, |e| e.is_int() && e != Elem::I1)?;
    let out = b.result(op, x.ty.clone())?;
    let n = x.ty.elem().bits();
    let (ty, x, y) = (x.ty, x.arg, y.arg);
    let safe = move |x: i64, y: i64| if y == 0 { 0 } else { wrap_int(f(x, y, n), n) };
    if let Type::Scalar(_) = ty {
        return step(move |m| {
            let divisor = m.int(y);
            if divisor == 0 {
                m.survivable(m.site, FaultKind::DivisionByZero, || "the divisor is 0".to_owned())?;
            }
            let z = safe(m.int(x), divisor);
            m.set(out, Value::Int(z));
            Ok(())
        });
    }
    step(move |m| {
        if let Some(lane) = m.lanes::<i32>(y).iter().position(|&d| d == 0) {
            m.survivable(m.site, FaultKind::DivisionByZero, || format!("lane {lane} of the divisor is 0"))?;
        }
        let z = zip_same(m, x, y, |x: i32, y: i32| safe(i64::from(x), i64::from(y)) as i32);
        m.set(out, z);
        Ok(())
    })
}

/// Predicates of `arith.cmpi` by number in the generic form.
const INT_PREDICATES: [&str; 10] = ["eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge"];
/// Predicates of `arith.cmpf` by number in the generic form.
const FLOAT_PREDICATES: [&str; 16] = [
    "false", "oeq", "ogt", "oge", "olt", "ole", "one", "ord", "ueq", "ugt", "uge", "ult", "ule", "une",
    "uno", "true",
];

pub(super) fn compare<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let names: &[&str] = if op.name == "arith.cmpi" { &INT_PREDICATES } else { &FLOAT_PREDICATES };
    let predicate = match op.attributes.get("predicate") {
        Some(Attribute::Str(name)) => names.iter().position(|n| n == name),
        Some(Attribute::Int(i)) => usize::try_from(*i).ok().filter(|&i| i < names.len()),
        _ => None,
    };
    let Some(predicate) = predicate else {
        return b.reject(op, format!("needs a predicate of {}", names.join(", ")));
    };
    macro_rules! int {
        ($f:expr) => {
            compare_int(b, op, $f)
        };
    }
    macro_rules! float {
        ($f:expr) => {
            compare_float(b, op, $f)
        };
    }
    let unordered = |x: f32, y: f32| x.is_nan() || y.is_nan();
    match names[predicate] {
        "eq" => int!(|x, y, _| x == y),
        "ne" => int!(|x, y, _| x != y),
        "slt" => int!(|x, y, _| x < y),
        "sle" => int!(|x, y, _| x <= y),
        "sgt" => int!(|x, y, _| x > y),
        "sge" => int!(|x, y, _| x >= y),
        "ult" if op.name == "arith.cmpi" => int!(|x, y, n| unsigned(x, n) < unsigned(y, n)),
        "ule" if op.name == "arith.cmpi" => int!(|x, y, n| unsigned(x, n) <= unsigned(y, n)),
        "ugt" if op.name == "arith.cmpi" => int!(|x, y, n| unsigned(x, n) > unsigned(y, n)),
        "uge" if op.name == "arith.cmpi" => int!(|x, y, n| unsigned(x, n) >= unsigned(y, n)),
        "oeq" => float!(|x, y| x == y),
        "ogt" => float!(|x, y| x > y),
        "oge" => float!(|x, y| x >= y),
        "olt" => float!(|x, y| x < y),
        "ole" => float!(|x, y| x <= y),
        "one" => float!(move |x, y| x != y && !unordered(x, y)),
        "ord" => float!(move |x, y| !unordered(x, y)),
        "ueq" => float!(move |x, y| x == y || unordered(x, y)),
        "ugt" => float!(move |x, y| x > y || unordered(x, y)),
        "uge" => float!(move |x, y| x >= y || unordered(x, y)),
        "ult" => float!(move |x, y| x < y || unordered(x, y)),
        "ule" => float!(move |x, y| x <= y || unordered(x, y)),
        "une" => float!(|x, y| x != y),
        "uno" => float!(unordered),
        constant => {
            let answer = constant == "true";
            float!(move |_, _| answer)
        }
    }
}

fn compare_int<'t>(
    b: &mut Builder<'_, 't>,
    op: &Op<'t>,
    f: impl Fn(i64, i64, u32) -> bool + Copy + Send + Sync + 'static,
) -> Built {
    let [x, y] = pair(b, op, Elem::is_int)?;
    let out = b.result(op, x.ty.with_elem(Elem::I1))?;
    let n = x.ty.elem().bits();
    let (ty, x, y) = (x.ty, x.arg, y.arg);
    match ty {
        Type::Scalar(_) => step(move |m| {
            let z = f(m.int(x), m.int(y), n);
            m.set(out, Value::Int(i64::from(z)));
            Ok(())
        }),
        _ if n == 1 => step(move |m| {
            let z = zip(m, x, y, |x: bool, y: bool| f(-i64::from(x), -i64::from(y), 1));
            m.set(out, z);
            Ok(())
        }),
        _ => step(move |m| {
            let z = zip(m, x, y, |x: i32, y: i32| f(i64::from(x), i64::from(y), n));
            m.set(out, z);
            Ok(())
        }),
    }
}

fn compare_float<'t>(
    b: &mut Builder<'_, 't>,
    op: &Op<'t>,
    f: impl Fn(f32, f32) -> bool + Copy + Send + Sync + 'static,
) -> Built {
    let [x, y] = pair(b, op, Elem::is_float)?;
    let out = b.result(op, x.ty.with_elem(Elem::I1))?;
    let (ty, x, y) = (x.ty, x.arg, y.arg);
    if let Type::Scalar(_) = ty {
        return step(move |m| {
            let z = f(float(m, x), float(m, y));
            m.set(out, Value::Int(i64::from(z)));
            Ok(())
        });
    }
    step(move |m| {
        let z = zip(m, x, y, f);
        m.set(out, z);
        Ok(())
    })
}

pub(super) fn select<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [c, x, y] = b.operands(op)?;
    b.expect_type(op, &y.ty, &x.ty)?;
    b.require(op, !matches!(x.ty, Type::MemRef(..)), || "does not select memrefs".to_owned())?;
    let out = b.result(op, x.ty.clone())?;
    let (condition, ty, x, y) = (c.arg, x.ty, x.arg, y.arg);
    if c.ty == Type::BOOL {
        if let Type::Scalar(e) = ty
            && e.is_int()
        {
            let known = b.divisor(x).sum(b.divisor(y));
            b.set_divisor(out, known);
        }
        return step(move |m| {
            let chosen = if m.int(condition) != 0 { x } else { y };
            let value = m.take(chosen);
            m.set(out, value);
            Ok(())
        });
    }
    b.expect_type(op, &c.ty, &ty.with_elem(Elem::I1))?;
    for_lane!(ty.elem(), L => step(move |m| {
        let value = select_lanes::<L>(m, condition, x, y);
        m.set(out, value);
        Ok(())
    }))
}

fn select_lanes<L: Lane>(m: &mut Machine<'_>, condition: Arg, x: Arg, y: Arg) -> Value {
    let distinct = x.slot != y.slot && x.slot != condition.slot;
    if x.last && distinct {
        let mut lanes = m.take_lanes::<L>(x);
        let (mask, other) = (m.lanes::<bool>(condition), m.lanes::<L>(y));
        if let Some(free) = std::sync::Arc::get_mut(&mut lanes) {
            crate::emulator::simd::vectorised(
                #[inline(always)]
                || free.iter_mut().zip(other).zip(mask).for_each(|((x, &y), &c)| *x = if c { *x } else { y }),
            );
            return L::share(lanes);
        }
        return L::wrap(pick(mask, &lanes, other));
    }
    L::wrap(pick(m.lanes(condition), m.lanes(x), m.lanes(y)))
}

fn pick<L: Lane>(mask: &[bool], x: &[L], y: &[L]) -> Vec<L> {
    let mut out = room(mask.len());
    crate::emulator::simd::vectorised(
        #[inline(always)]
        || out.extend(x.iter().zip(y).zip(mask).map(|((&x, &y), &c)| if c { x } else { y })),
    );
    out
}

/// The exact quotient, also where the text allows an approximation.
pub(super) fn reciprocal<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    float1(b, op, |x| 1.0 / x)
}

/// The compiler takes the claim on trust; here it is checked.
pub(super) fn assume_multiple<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
    let [x] = b.operands(op)?;
    let multiple = op.attributes.int("multiple").filter(|&m| m > 0);
    let Some(multiple) = multiple else { return b.reject(op, "needs a positive multiple") };
    b.require(op, matches!(x.ty, Type::Scalar(e) if e.is_int()), || format!("{} is no integer", x.ty))?;
    let out = b.result(op, x.ty)?;
    let known =
        if b.divisor(x.arg).divides_by(multiple as u64) { b.divisor(x.arg) } else { Divisor::of(multiple) };
    b.set_divisor(out, known);
    let arg = x.arg;
    step(move |m| {
        let value = m.int(arg);
        if value % multiple != 0 {
            m.survivable(m.site, FaultKind::FalseAssumption, || {
                format!("{value} is no multiple of {multiple}")
            })?;
        }
        m.set(out, Value::Int(value));
        Ok(())
    })
}
