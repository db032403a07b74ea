//! Attributes and types.

use super::ast::{Attribute, Dict};
use super::lexer::Kind;
use super::parser::Parser;
use crate::emulator::error::Result;
use crate::emulator::types::{Elem, Space, Type};

/// Most elements that a type may have: 2^40 keeps every size and offset far from overflow.
const MAX_ELEMENTS: usize = 1 << 40;
/// Most lanes that a vector may have: 64 MiB of `f32`, half of all VMEM.
const MAX_LANES: usize = 1 << 24;

impl<'t> Parser<'t> {
    /// `{name = value, unit, ..}`.
    pub(super) fn dict(&mut self) -> Result<Dict<'t>> {
        self.enter()?;
        self.expect("{")?;
        let mut entries = Vec::new();
        while !self.take("}")? {
            let token = self.next()?;
            let name = match token.kind {
                Kind::Bare => token.text,
                Kind::Str => &token.text[1..token.text.len() - 1],
                _ => {
                    return self
                        .lexer
                        .error(token.start, format!("expected an attribute name, found '{}'", token.text));
                }
            };
            let value = if self.take("=")? { self.attribute()? } else { Attribute::Unit };
            entries.push((name, value));
            if !self.at("}") {
                self.expect(",")?;
            }
        }
        self.leave();
        Ok(Dict(entries))
    }

    pub(super) fn attribute(&mut self) -> Result<Attribute<'t>> {
        self.enter()?;
        let value = self.untyped_attribute()?;
        let typed = matches!(
            value,
            Attribute::Int(_) | Attribute::Hex(_) | Attribute::Float(_) | Attribute::Dense(_)
        );
        if typed && self.take(":")? {
            self.skip_type()?;
        }
        self.leave();
        Ok(value)
    }

    /// An attribute without its `: type`, so that a constant's own type can be read by the caller.
    pub(super) fn untyped_attribute(&mut self) -> Result<Attribute<'t>> {
        let token = self.peek();
        match token.kind {
            Kind::Int | Kind::Float => self.number(),
            Kind::Str => {
                self.next()?;
                Ok(Attribute::Str(&token.text[1..token.text.len() - 1]))
            }
            Kind::Symbol => {
                self.next()?;
                Ok(Attribute::Symbol(&token.text[1..]))
            }
            Kind::Hash => {
                self.next()?;
                let body = if self.at("<") { self.skip_balanced("<", ">")? } else { "" };
                Ok(Attribute::Dialect(&token.text[1..], body))
            }
            Kind::Bang => {
                self.skip_type()?;
                Ok(Attribute::Opaque)
            }
            Kind::Punct => match token.text {
                "[" => Ok(Attribute::List(self.list("[", "]")?)),
                "{" => Ok(Attribute::Dict(self.dict()?)),
                "(" => {
                    self.skip_type()?;
                    Ok(Attribute::Opaque)
                }
                _ => self.unexpected("an attribute"),
            },
            Kind::Bare => self.keyword_attribute(),
            _ => self.unexpected("an attribute"),
        }
    }

    fn keyword_attribute(&mut self) -> Result<Attribute<'t>> {
        let token = self.peek();
        match token.text {
            "true" | "false" => {
                self.next()?;
                Ok(Attribute::Bool(token.text == "true"))
            }
            "unit" => {
                self.next()?;
                Ok(Attribute::Unit)
            }
            "array" => {
                self.next()?;
                self.expect("<")?;
                self.skip_type()?;
                let mut items = Vec::new();
                if self.take(":")? {
                    while !self.at(">") {
                        items.push(self.attribute()?);
                        if !self.at(">") {
                            self.expect(",")?;
                        }
                    }
                }
                self.expect(">")?;
                Ok(Attribute::List(items))
            }
            "dense" => {
                self.next()?;
                self.expect("<")?;
                let mut items = Vec::new();
                if !self.at(">") {
                    self.dense_elements(&mut items)?;
                }
                self.expect(">")?;
                Ok(Attribute::Dense(items))
            }
            "affine_map" | "affine_set" | "loc" | "opaque" | "strided" => {
                self.next()?;
                if self.at("<") {
                    self.skip_balanced("<", ">")?;
                }
                Ok(Attribute::Opaque)
            }
            _ => Ok(Attribute::Type(self.ty()?)),
        }
    }

    fn dense_elements(&mut self, items: &mut Vec<Attribute<'t>>) -> Result<()> {
        if !self.at("[") {
            items.push(self.untyped_attribute()?);
            return Ok(());
        }
        self.enter()?;
        self.expect("[")?;
        while !self.take("]")? {
            self.dense_elements(items)?;
            if !self.at("]") {
                self.expect(",")?;
            }
        }
        self.leave();
        Ok(())
    }

    fn number(&mut self) -> Result<Attribute<'t>> {
        let token = self.next()?;
        let (negative, digits) = match token.text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, token.text),
        };
        let value = if let Some(hex) = digits.strip_prefix("0x") {
            u64::from_str_radix(hex, 16).ok().map(Attribute::Hex)
        } else if token.kind == Kind::Float {
            token.text.parse().ok().map(Attribute::Float)
        } else {
            // The most negative i64 has no positive counterpart.
            digits
                .parse::<i128>()
                .ok()
                .and_then(|v| i64::try_from(if negative { -v } else { v }).ok())
                .map(Attribute::Int)
        };
        match value {
            Some(value) => Ok(value),
            None => self.lexer.error(token.start, format!("number '{}' is out of range", token.text)),
        }
    }

    /// A bracketed, comma-separated list of attributes.
    pub(super) fn list(&mut self, open: &str, close: &str) -> Result<Vec<Attribute<'t>>> {
        self.expect(open)?;
        let mut items = Vec::new();
        while !self.take(close)? {
            items.push(self.attribute()?);
            if !self.at(close) {
                self.expect(",")?;
            }
        }
        Ok(items)
    }

    /// Skips from an opening to its closing bracket and returns what stands between them.
    pub(super) fn skip_balanced(&mut self, open: &str, close: &str) -> Result<&'t str> {
        let opening = self.peek().start;
        self.expect(open)?;
        let start = self.lexer.peek().start;
        let mut depth = 1;
        loop {
            let token = self.peek();
            if token.kind == Kind::End {
                return self.lexer.error(opening, format!("'{open}' is never closed"));
            }
            if token.kind == Kind::Punct && token.text == open {
                depth += 1;
            } else if token.kind == Kind::Punct && token.text == close {
                depth -= 1;
            }
            self.next()?;
            if depth == 0 {
                return Ok(&self.lexer.source()[start..token.start]);
            }
        }
    }

    /// Reads over a type of which nothing is kept.
    pub(super) fn skip_type(&mut self) -> Result<()> {
        if self.at("(") {
            self.skip_balanced("(", ")")?;
            self.expect("->")?;
            self.enter()?;
            if self.at("(") {
                self.skip_balanced("(", ")")?;
            } else {
                self.skip_type()?;
            }
            self.leave();
            return Ok(());
        }
        if !matches!(self.peek().kind, Kind::Bare | Kind::Bang) {
            return self.unexpected("a type");
        }
        self.next()?;
        if self.at("<") {
            self.skip_balanced("<", ">")?;
        }
        Ok(())
    }

    /// A type of an SSA value.
    pub(super) fn ty(&mut self) -> Result<Type> {
        let token = self.peek();
        let ty = match token.text {
            "vector" => {
                self.next()?;
                let (shape, elem) = self.shape()?;
                if elem.is_semaphore() || elem == Elem::Index {
                    return self.lexer.error(token.start, format!("a vector of {elem} is not supported"));
                }
                if shape.iter().product::<usize>() > MAX_LANES {
                    return self.lexer.error(token.start, format!("a vector of more than {MAX_LANES} lanes"));
                }
                self.expect(">")?;
                Type::Vector(shape, elem)
            }
            "memref" => {
                self.next()?;
                let (shape, elem) = self.shape()?;
                let mut space = None;
                while self.take(",")? {
                    let at = self.peek().start;
                    match self.attribute()? {
                        Attribute::Dialect("tpu.memory_space", name) => match Space::parse(name.trim()) {
                            Some(s) => space = Some(s),
                            None => {
                                return self.lexer.error(at, format!("unsupported memory space '{name}'"));
                            }
                        },
                        // A layout says how the compiler tiles the array, not what it holds.
                        Attribute::Dialect(..) | Attribute::Opaque => {}
                        _ => return self.lexer.error(at, "expected a layout or a memory space"),
                    }
                }
                self.expect(">")?;
                match space {
                    Some(space) if elem.is_semaphore() == (space == Space::Semaphore) => {
                        Type::MemRef(shape, elem, space)
                    }
                    Some(space) => {
                        let message = format!("{elem} cannot live in memory space {}", space.name());
                        return self.lexer.error(token.start, message);
                    }
                    None => return self.lexer.error(token.start, "a memref needs a #tpu.memory_space"),
                }
            }
            _ => Type::Scalar(self.elem()?),
        };
        Ok(ty)
    }

    /// `<4x8xf32`, up to but without what follows the element type.
    fn shape(&mut self) -> Result<(Vec<usize>, Elem)> {
        if !self.at("<") {
            return self.unexpected("'<'");
        }
        let bytes = self.lexer.source().as_bytes();
        let mut at = self.lexer.token_end();
        let mut shape = Vec::new();
        let mut volume = 1usize;
        loop {
            let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
            if bytes.get(at) == Some(&b'?') {
                return self.lexer.error(at, "dynamic dimensions are not supported");
            }
            if digits == 0 {
                break;
            }
            if bytes.get(at + digits) != Some(&b'x') {
                return self.lexer.error(at, "expected a dimension followed by 'x'");
            }
            let dim: Option<usize> = self.lexer.source()[at..at + digits].parse().ok();
            let grown = dim.and_then(|d| volume.checked_mul(d)).filter(|&v| v <= MAX_ELEMENTS);
            let (Some(dim), Some(grown)) = (dim, grown) else {
                return self.lexer.error(at, "shape is too large");
            };
            if dim == 0 {
                return self.lexer.error(at, "empty dimensions are not supported");
            }
            volume = grown;
            shape.push(dim);
            at += digits + 1;
        }
        self.lexer.seek(at)?;
        Ok((shape, self.elem()?))
    }

    fn elem(&mut self) -> Result<Elem> {
        let token = self.peek();
        let elem = match token.text {
            "f32" => Elem::F32,
            "bf16" => Elem::Bf16,
            "i1" => Elem::I1,
            "i8" => Elem::I8,
            "i16" => Elem::I16,
            "i32" => Elem::I32,
            "index" => Elem::Index,
            "!tpu.dma_semaphore" => Elem::DmaSemaphore,
            "!tpu.semaphore" => Elem::Semaphore,
            _ if matches!(token.kind, Kind::Bare | Kind::Bang) => {
                return self.lexer.error(token.start, format!("unsupported type '{}'", token.text));
            }
            _ => return self.unexpected("a type"),
        };
        self.next()?;
        Ok(elem)
    }
}
