//! Pretty forms that the table of `formats` cannot describe.

use super::ast::{Attribute, Op};
use super::formats::SIMPLE_OPS;
use super::lexer::Kind;
use super::parser::Parser;
use crate::emulator::error::{EmulatorError, Result};
use crate::emulator::types::{Elem, Type};

/// Operand groups of `tpu.enqueue_dma`, in the dialect's order.
pub(crate) const ENQUEUE_DMA: [&str; 6] =
    ["source", "source_semaphore", "target", "target_semaphore", "device_id", "core_id"];
/// Operand groups of `tpu.wait_dma2`, in the dialect's order.
pub(crate) const WAIT_DMA2: [&str; 5] = ["semaphore", "src", "dst", "device_id", "core_id"];
/// Operand groups of `tpu.wait_dma`, in the dialect's order.
pub(crate) const WAIT_DMA: [&str; 4] = ["source", "source_semaphore", "target", "target_semaphore"];

impl<'t> Parser<'t> {
    pub(super) fn pretty_form(&mut self, op: &mut Op<'t>) -> Result<()> {
        match op.name {
            "arith.constant" => self.constant(op),
            "arith.select" => self.select(op),
            "vector.multi_reduction" => self.multi_reduction(op),
            "vector.extract" => self.extract(op),
            "vector.extract_strided_slice" => self.strided_slice(op, 1),
            "vector.insert_strided_slice" => self.strided_slice(op, 2),
            "tpu.vector_store" => self.vector_store(op),
            "tpu.vector_load" => self.vector_load(op),
            "tpu.enqueue_dma" => self.groups(op, &ENQUEUE_DMA),
            "tpu.wait_dma2" => self.groups(op, &WAIT_DMA2),
            "tpu.wait_dma" => self.groups(op, &WAIT_DMA),
            "scf.for" => self.scf_for(op),
            "scf.while" => self.scf_while(op),
            "scf.if" => self.scf_if(op),
            "scf.condition" => self.condition(op),
            "scf.yield" | "return" | "func.return" => {
                self.op_attributes(op)?;
                self.values_with_types(op)
            }
            "call" | "func.call" => self.call(op),
            name => match SIMPLE_OPS.iter().find(|(n, _)| *n == name) {
                Some((_, format)) => self.formatted(op, format),
                None => Err(EmulatorError::UnknownOp { location: op.location, op: name.to_owned() }),
            },
        }
    }

    fn operand(&mut self, op: &mut Op<'t>, ty: Option<Type>) -> Result<()> {
        let value = self.value_use()?;
        op.operands.push(value);
        op.operand_types.push(ty);
        Ok(())
    }

    /// Operands up to a closing mark.
    fn operands_until(&mut self, op: &mut Op<'t>, close: &str) -> Result<usize> {
        let before = op.operands.len();
        while !self.take(close)? {
            self.operand(op, None)?;
            if !self.at(close) {
                self.expect(",")?;
            }
        }
        Ok(op.operands.len() - before)
    }

    /// `value : type`; a boolean has no type.
    fn constant(&mut self, op: &mut Op<'t>) -> Result<()> {
        self.op_attributes(op)?;
        let value = self.untyped_attribute()?;
        let ty = if matches!(value, Attribute::Bool(_)) && !self.at(":") {
            Type::BOOL
        } else {
            self.expect(":")?;
            self.ty()?
        };
        op.attributes.0.push(("value", value));
        op.result_types.push(ty);
        Ok(())
    }

    /// `%c, %a, %b : [condition type,] type`.
    fn select(&mut self, op: &mut Op<'t>) -> Result<()> {
        for i in 0..3 {
            if i > 0 {
                self.expect(",")?;
            }
            self.operand(op, None)?;
        }
        self.op_attributes(op)?;
        self.expect(":")?;
        let mut condition = Type::BOOL;
        let mut ty = self.ty()?;
        if self.take(",")? {
            condition = ty;
            ty = self.ty()?;
        }
        op.operand_types = vec![Some(condition), Some(ty.clone()), Some(ty.clone())];
        op.result_types.push(ty);
        Ok(())
    }

    /// `<kind>, %x, %init [dims] : type to type`.
    fn multi_reduction(&mut self, op: &mut Op<'t>) -> Result<()> {
        let kind = self.skip_balanced("<", ">")?;
        self.expect(",")?;
        self.operand(op, None)?;
        self.expect(",")?;
        self.operand(op, None)?;
        self.op_attributes(op)?;
        let dims = self.list("[", "]")?;
        self.op_attributes(op)?;
        self.expect(":")?;
        op.operand_types[0] = Some(self.ty()?);
        self.expect("to")?;
        let result = self.ty()?;
        op.operand_types[1] = Some(result.clone());
        op.result_types.push(result);
        op.attributes.0.push(("kind", Attribute::Str(kind.trim())));
        op.attributes.0.push(("reduction_dims", Attribute::List(dims)));
        Ok(())
    }

    /// `%v[0, 1] : type from type`.
    fn extract(&mut self, op: &mut Op<'t>) -> Result<()> {
        self.operand(op, None)?;
        let position = self.list("[", "]")?;
        self.op_attributes(op)?;
        self.expect(":")?;
        op.result_types.push(self.ty()?);
        self.expect("from")?;
        op.operand_types[0] = Some(self.ty()?);
        op.attributes.0.push(("static_position", Attribute::List(position)));
        Ok(())
    }

    /// `%v offsets = [..], sizes = [..], strides = [..] : type to type`, or the same in an attribute dictionary.
    fn strided_slice(&mut self, op: &mut Op<'t>, operands: usize) -> Result<()> {
        for i in 0..operands {
            if i > 0 {
                self.expect(",")?;
            }
            self.operand(op, None)?;
        }
        self.op_attributes(op)?;
        while self.peek().kind == Kind::Bare {
            let name = self.next()?.text;
            self.expect("=")?;
            let value = self.attribute()?;
            op.attributes.0.push((name, value));
            self.take(",")?;
        }
        self.expect(":")?;
        op.operand_types[0] = Some(self.ty()?);
        if operands == 2 {
            self.expect(if self.at(",") { "," } else { "into" })?;
            op.operand_types[1] = Some(self.ty()?);
            op.result_types.extend(op.operand_types[1].clone());
        } else {
            self.expect("to")?;
            op.result_types.push(self.ty()?);
        }
        Ok(())
    }

    /// `%m[i], %v [masked %mask] {strides} : memref, vector, [mask type]`.
    fn vector_store(&mut self, op: &mut Op<'t>) -> Result<()> {
        let base = self.value_use()?;
        self.expect("[")?;
        let mut indices = Vec::new();
        while !self.take("]")? {
            indices.push(self.value_use()?);
            if !self.at("]") {
                self.expect(",")?;
            }
        }
        self.expect(",")?;
        let value = self.value_use()?;
        let mask = if self.take_keyword("masked")? { Some(self.value_use()?) } else { None };
        self.op_attributes(op)?;
        self.expect(":")?;
        let base_type = self.ty()?;
        self.expect(",")?;
        let value_type = self.ty()?;
        self.expect(",")?;
        op.operands = vec![value, base];
        op.operand_types = vec![Some(value_type), Some(base_type)];
        op.segments = Some(vec![1, 1, indices.len(), usize::from(mask.is_some())]);
        op.operand_types.resize(2 + indices.len(), None);
        op.operands.extend(indices);
        if let Some(mask) = mask {
            op.operands.push(mask);
            op.operand_types.push(Some(self.ty()?));
        }
        Ok(())
    }

    /// `%m[i] [masked %mask] {strides} : memref, vector, [mask type]`.
    fn vector_load(&mut self, op: &mut Op<'t>) -> Result<()> {
        self.operand(op, None)?;
        self.expect("[")?;
        let indices = self.operands_until(op, "]")?;
        let masked = self.take_keyword("masked")?;
        if masked {
            self.operand(op, None)?;
        }
        self.op_attributes(op)?;
        self.expect(":")?;
        op.operand_types[0] = Some(self.ty()?);
        self.expect(",")?;
        op.result_types.push(self.ty()?);
        self.expect(",")?;
        if masked {
            let mask = self.ty()?;
            op.operand_types[1 + indices] = Some(mask);
        }
        op.segments = Some(vec![1, indices, usize::from(masked)]);
        Ok(())
    }

    /// `group(%v : type) ..` in any order.
    fn groups(&mut self, op: &mut Op<'t>, names: &[&'static str]) -> Result<()> {
        let mut found = vec![None; names.len()];
        while self.peek().kind == Kind::Bare {
            let Some(group) = names.iter().position(|n| self.at_keyword(n)) else { break };
            self.next()?;
            self.expect("(")?;
            let value = self.value_use()?;
            self.expect(":")?;
            let ty = self.ty()?;
            self.expect(")")?;
            found[group] = Some((value, ty));
        }
        self.op_attributes(op)?;
        op.segments = Some(found.iter().map(|f| usize::from(f.is_some())).collect());
        for (value, ty) in found.into_iter().flatten() {
            op.operands.push(value);
            op.operand_types.push(Some(ty));
        }
        Ok(())
    }

    /// `%a, %b : type, type` or nothing.
    fn values_with_types(&mut self, op: &mut Op<'t>) -> Result<()> {
        if self.peek().kind != Kind::Value {
            return Ok(());
        }
        // A value that starts the next op has '=', ':' and a number, or ',' and another value after it; an operand
        // list always ends in ':' and a type. Only the operand list can stand here, because terminators end a block.
        loop {
            self.operand(op, None)?;
            if !self.take(",")? {
                break;
            }
        }
        self.expect(":")?;
        for i in 0..op.operands.len() {
            if i > 0 {
                self.expect(",")?;
            }
            op.operand_types[i] = Some(self.ty()?);
        }
        Ok(())
    }

    /// `(%c) %a, %b : type, type`.
    fn condition(&mut self, op: &mut Op<'t>) -> Result<()> {
        self.expect("(")?;
        self.operand(op, Some(Type::BOOL))?;
        self.expect(")")?;
        self.op_attributes(op)?;
        let mut rest = Vec::new();
        std::mem::swap(&mut rest, &mut op.operands);
        let mut rest_types = std::mem::take(&mut op.operand_types);
        self.values_with_types(op)?;
        rest.append(&mut op.operands);
        rest_types.append(&mut op.operand_types);
        op.operands = rest;
        op.operand_types = rest_types;
        Ok(())
    }

    /// `%i = %lo to %hi step %s [iter_args(%a = %v, ..) -> (types)] [: type] { .. }`.
    fn scf_for(&mut self, op: &mut Op<'t>) -> Result<()> {
        let variable = self.value_name()?;
        self.expect("=")?;
        self.operand(op, None)?;
        self.expect("to")?;
        self.operand(op, None)?;
        self.expect("step")?;
        self.operand(op, None)?;
        let mut carried = Vec::new();
        if self.take_keyword("iter_args")? {
            carried = self.assignments(op)?;
            self.expect("->")?;
            op.result_types = self.result_types()?;
        }
        let counter = if self.take(":")? { self.ty()? } else { Type::INDEX };
        if carried.len() != op.result_types.len() {
            let message = format!("{} iter_args with {} types", carried.len(), op.result_types.len());
            return Err(EmulatorError::Parse { location: op.location, message });
        }
        op.operand_types = vec![Some(counter.clone()); 3];
        op.operand_types.extend(op.result_types.iter().cloned().map(Some));
        let mut body = self.region()?;
        body.arguments = std::iter::once((variable, counter))
            .chain(carried.into_iter().zip(op.result_types.clone()))
            .collect();
        op.regions.push(body);
        self.op_attributes(op)
    }

    /// `(%a = %v, ..)`: the names, the values becoming operands.
    fn assignments(&mut self, op: &mut Op<'t>) -> Result<Vec<super::ast::ValueName<'t>>> {
        self.expect("(")?;
        let mut names = Vec::new();
        while !self.take(")")? {
            names.push(self.value_name()?);
            self.expect("=")?;
            self.operand(op, None)?;
            if !self.at(")") {
                self.expect(",")?;
            }
        }
        Ok(names)
    }

    /// `(%a = %v, ..) : (types) -> (types) { .. } do { .. }`.
    fn scf_while(&mut self, op: &mut Op<'t>) -> Result<()> {
        let names = self.assignments(op)?;
        self.expect(":")?;
        if !self.at("(") {
            return self.unexpected("'('");
        }
        let types = self.result_types()?;
        if types.len() != names.len() {
            let message = format!("{} values with {} types", names.len(), types.len());
            return Err(EmulatorError::Parse { location: op.location, message });
        }
        self.expect("->")?;
        op.result_types = self.result_types()?;
        op.operand_types = types.iter().cloned().map(Some).collect();
        let mut before = self.region()?;
        before.arguments = names.into_iter().zip(types).collect();
        self.expect("do")?;
        let after = self.region()?;
        op.regions.extend([before, after]);
        if self.take_keyword("attributes")? {
            self.dict()?;
        }
        Ok(())
    }

    /// `%c [-> (types)] { .. } [else { .. }]`.
    fn scf_if(&mut self, op: &mut Op<'t>) -> Result<()> {
        self.operand(op, Some(Type::Scalar(Elem::I1)))?;
        if self.take("->")? {
            op.result_types = self.result_types()?;
        }
        op.regions.push(self.region()?);
        if self.take_keyword("else")? {
            op.regions.push(self.region()?);
        }
        self.op_attributes(op)
    }

    /// `@f(%a, ..) : (types) -> types`.
    fn call(&mut self, op: &mut Op<'t>) -> Result<()> {
        let token = self.peek();
        if token.kind != Kind::Symbol {
            return self.unexpected("a function name");
        }
        self.next()?;
        op.attributes.0.push(("callee", Attribute::Symbol(&token.text[1..])));
        self.expect("(")?;
        self.operands_until(op, ")")?;
        self.op_attributes(op)?;
        self.expect(":")?;
        let at = self.location();
        if !self.at("(") {
            return self.unexpected("'('");
        }
        op.operand_types = self.result_types()?.into_iter().map(Some).collect();
        if op.operand_types.len() != op.operands.len() {
            let message = format!("{} operands with {} types", op.operands.len(), op.operand_types.len());
            return Err(EmulatorError::Parse { location: at, message });
        }
        self.expect("->")?;
        op.result_types = self.result_types()?;
        Ok(())
    }
}
