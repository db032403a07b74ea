//! Comparisons.

use super::float::float;
use super::lanes::zip;
use super::pair::pair;
use crate::emulator::builder::{Builder, Built, step};
use crate::emulator::text::ast::{Attribute, Op};
use crate::emulator::types::{Elem, Type};
use crate::emulator::value::{Value, unsigned};

/// Predicates of `arith.cmpi` by number in the generic form.
const INT_PREDICATES: [&str; 10] = ["eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge"];
/// Predicates of `arith.cmpf` by number in the generic form.
const FLOAT_PREDICATES: [&str; 16] = [
    "false", "oeq", "ogt", "oge", "olt", "ole", "one", "ord", "ueq", "ugt", "uge", "ult", "ule", "une",
    "uno", "true",
];

pub(super) fn build<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>) -> Built {
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
