//! Arithmetic on integers: each lane alone. What is known of a result's divisors goes with it.

use super::lanes::{map_same, zip_same};
use super::pair::pair;
use crate::emulator::alignment::Divisor;
use crate::emulator::builder::{Builder, Built, step};
use crate::emulator::fault::FaultKind;
use crate::emulator::text::ast::Op;
use crate::emulator::types::{Elem, Type};
use crate::emulator::value::{Value, wrap_int};

pub(super) fn int1<'t>(
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

pub(super) fn int2<'t>(
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
pub(super) fn division<'t>(
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
