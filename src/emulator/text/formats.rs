//! Pretty forms by table.
//!
//! A format is a list of words: `%0` an operand by its place in the dialect's order, `%*` the variadic operands
//! that come last, `{}` an optional attribute dictionary, `=name` an attribute, `T0` the type of an operand, `T*`
//! the types of the variadic operands, `R` the result type, `S` one type for all operands and the result, `C` one
//! type for all operands with a boolean result of its shape, `E` (nothing in the text) the element type of
//! operand 0 as result type. Any other word stands for itself.

use super::ast::{Attribute, Op};
use super::lexer::Kind;
use super::parser::Parser;
use crate::emulator::error::Result;
use crate::emulator::types::{Elem, Type};

const BINARY: &str = "%0 , %1 {} : S";
const UNARY: &str = "%0 {} : S";
const CAST: &str = "%0 {} : T0 to R";
const VIEW: &str = "%0 {} : T0 -> R";

/// Ops whose pretty form the table describes.
pub(crate) const SIMPLE_OPS: &[(&str, &str)] = &[
    ("arith.addf", BINARY),
    ("arith.subf", BINARY),
    ("arith.mulf", BINARY),
    ("arith.divf", BINARY),
    ("arith.remf", BINARY),
    ("arith.maximumf", BINARY),
    ("arith.minimumf", BINARY),
    ("arith.maxnumf", BINARY),
    ("arith.minnumf", BINARY),
    ("arith.addi", BINARY),
    ("arith.subi", BINARY),
    ("arith.muli", BINARY),
    ("arith.divsi", BINARY),
    ("arith.divui", BINARY),
    ("arith.remsi", BINARY),
    ("arith.remui", BINARY),
    ("arith.floordivsi", BINARY),
    ("arith.ceildivsi", BINARY),
    ("arith.andi", BINARY),
    ("arith.ori", BINARY),
    ("arith.xori", BINARY),
    ("arith.shli", BINARY),
    ("arith.shrsi", BINARY),
    ("arith.shrui", BINARY),
    ("arith.maxsi", BINARY),
    ("arith.minsi", BINARY),
    ("arith.maxui", BINARY),
    ("arith.minui", BINARY),
    ("math.powf", BINARY),
    ("arith.negf", UNARY),
    ("math.absf", UNARY),
    ("math.absi", UNARY),
    ("math.ceil", UNARY),
    ("math.cos", UNARY),
    ("math.ctlz", UNARY),
    ("math.ctpop", UNARY),
    ("math.erf", UNARY),
    ("math.exp", UNARY),
    ("math.exp2", UNARY),
    ("math.floor", UNARY),
    ("math.log", UNARY),
    ("math.log1p", UNARY),
    ("math.log2", UNARY),
    ("math.roundeven", UNARY),
    ("math.rsqrt", UNARY),
    ("math.sin", UNARY),
    ("math.sqrt", UNARY),
    ("math.tan", UNARY),
    ("math.tanh", UNARY),
    ("arith.extf", CAST),
    ("arith.truncf", CAST),
    ("arith.extsi", CAST),
    ("arith.extui", CAST),
    ("arith.trunci", CAST),
    ("arith.sitofp", CAST),
    ("arith.uitofp", CAST),
    ("arith.fptosi", CAST),
    ("arith.index_cast", CAST),
    ("arith.index_castui", CAST),
    ("arith.bitcast", CAST),
    ("arith.cmpi", "=predicate , %0 , %1 {} : C"),
    ("arith.cmpf", "=predicate , %0 , %1 {} : C"),
    ("vector.broadcast", CAST),
    ("vector.shape_cast", CAST),
    ("vector.transpose", "%0 , =permutation {} : T0 to R"),
    ("vector.load", "%0 [ %* ] {} : T0 , R"),
    ("vector.store", "%0 , %1 [ %* ] {} : T1 , T0"),
    ("memref.load", "%0 [ %* ] {} : T0 E"),
    ("memref.store", "%0 , %1 [ %* ] {} : T1"),
    ("memref.alloca", "( ) {} : R"),
    ("tpu.strided_load", "%0 [ %* ] {} : T0 , R"),
    ("tpu.strided_store", "%0 [ %* ] , %1 {} : T0 , T1"),
    ("tpu.iota", "{} : R"),
    ("tpu.transpose", "%0 , =permutation {} : T0 -> R"),
    ("tpu.concatenate", "%* in =dimension {} : T* -> R"),
    ("tpu.rotate", "%0 by =amount dim =dimension {} : T0 -> R"),
    ("tpu.dynamic_rotate", "%0 by %1 dim =dimension {} : T0 , T1 -> R"),
    ("tpu.dynamic_gather", "%0 [ %1 ] in =dimensions {} : T0 , T1 -> R"),
    ("tpu.repeat", "%0 , =dimension x =times {} : T0 -> R"),
    ("tpu.reciprocal", VIEW),
    ("tpu.bitcast", VIEW),
    ("tpu.reduce_index", VIEW),
    ("tpu.memref_squeeze", VIEW),
    ("tpu.memref_reshape", VIEW),
    ("tpu.memref_bitcast", VIEW),
    ("tpu.memref_slice", "%0 [ %* ] {} : T0 -> R"),
    ("tpu.matmul", "%0 , %1 , %2 {} : T0 , T1 , T2 -> R"),
    ("tpu.assume_multiple", "%0 , =multiple {} : S"),
    ("tpu.sem_signal", "%0 , %1 {} : T0"),
    ("tpu.sem_wait", "%0 , %1 {} : T0"),
    ("tpu.sem_read", "%0 {} : T0 -> R"),
];

impl<'t> Parser<'t> {
    /// Reads an op by its format. The op's name has been read.
    pub(super) fn formatted(&mut self, op: &mut Op<'t>, format: &'static str) -> Result<()> {
        let singles = format
            .split(' ')
            .filter_map(|w| w.strip_prefix('%')?.parse::<usize>().ok())
            .max()
            .map_or(0, |m| m + 1);
        let mut operands = vec![None; singles];
        let mut types = vec![None; singles];
        let mut variadic = Vec::new();
        let mut variadic_types = Vec::new();
        for word in format.split(' ') {
            let (head, rest) = word.split_at(1);
            match (head, rest) {
                ("%", "*") => {
                    while self.peek().kind == Kind::Value {
                        variadic.push(self.value_use()?);
                        if !self.take(",")? {
                            break;
                        }
                    }
                }
                ("%", n) => {
                    let value = self.value_use()?;
                    set(&mut operands, n, value);
                }
                ("T", "*") => {
                    for _ in 0..variadic.len() {
                        if !variadic_types.is_empty() {
                            self.expect(",")?;
                        }
                        variadic_types.push(Some(self.ty()?));
                    }
                }
                ("T", n) if n.parse::<usize>().is_ok() => {
                    let ty = self.ty()?;
                    set(&mut types, n, ty);
                }
                ("=", name) => {
                    let value = self.format_attribute()?;
                    op.attributes.0.push((name, value));
                }
                ("R", "") => op.result_types.push(self.ty()?),
                ("S", "") => {
                    let ty = self.ty()?;
                    types.fill(Some(ty.clone()));
                    op.result_types.push(ty);
                }
                ("C", "") => {
                    let ty = self.ty()?;
                    op.result_types.push(ty.with_elem(Elem::I1));
                    types.fill(Some(ty));
                }
                ("E", "") => {
                    if let Some(Some(ty)) = types.first() {
                        let ty: &Type = ty;
                        op.result_types.push(Type::Scalar(ty.elem()));
                    }
                }
                ("{", "}") => self.op_attributes(op)?,
                _ => self.expect(word)?,
            }
        }
        op.operands.extend(operands.into_iter().flatten());
        op.operand_types = types;
        variadic_types.resize(variadic.len(), None);
        op.operands.append(&mut variadic);
        op.operand_types.append(&mut variadic_types);
        Ok(())
    }

    /// An attribute inside a pretty form: a bare keyword such as a comparison's predicate, or any attribute.
    fn format_attribute(&mut self) -> Result<Attribute<'t>> {
        if self.peek().kind == Kind::Bare {
            Ok(Attribute::Str(self.next()?.text))
        } else {
            self.untyped_attribute()
        }
    }

    /// `fastmath<..>` and `overflow<..>` flags and the attribute dictionary, all optional. The flags permit the
    /// compiler to be inexact; the emulator never makes use of that.
    pub(super) fn op_attributes(&mut self, op: &mut Op<'t>) -> Result<()> {
        while ["fastmath", "overflow"].iter().any(|f| self.at_keyword(f)) {
            self.next()?;
            self.skip_balanced("<", ">")?;
        }
        if self.at("{") {
            op.attributes.0.extend(self.dict()?.0);
        }
        Ok(())
    }
}

fn set<T>(slots: &mut [Option<T>], index: &str, value: T) {
    if let Some(slot) = index.parse::<usize>().ok().and_then(|i| slots.get_mut(i)) {
        *slot = Some(value);
    }
}
