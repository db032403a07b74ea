//! Recursive descent over modules, functions, blocks and ops. Attributes and types are in `attributes`, the
//! pretty forms of single ops in `formats` (by table) and `ops` (by hand).

use super::ast::{Block, Dict, Function, Module, Op, ValueName};
use super::lexer::{Kind, Lexer, Token};
use crate::emulator::error::{EmulatorError, Result};
use crate::emulator::location::Location;
use crate::emulator::types::Type;

/// Deepest nesting of regions, attributes and types together.
const MAX_DEPTH: usize = 96;

pub(super) struct Parser<'t> {
    pub(super) lexer: Lexer<'t>,
    depth: usize,
}

/// Parses a kernel text: a module of functions, or bare functions.
pub(crate) fn parse(text: &str) -> Result<Module<'_>> {
    let mut parser = Parser { lexer: Lexer::new(text)?, depth: 0 };
    let functions = parser.module()?;
    let mut markers = Vec::new();
    for &(offset, comment) in parser.lexer.comments() {
        let Some(name) = comment.trim().strip_prefix("count:").map(str::trim) else { continue };
        if name.is_empty() || name.contains(|c: char| c.is_whitespace()) {
            return parser
                .lexer
                .error(offset, "a count comment reads '// count: NAME', the name without spaces");
        }
        markers.push((parser.lexer.location(offset), name));
    }
    Ok(Module { functions, markers })
}

impl<'t> Parser<'t> {
    fn module(&mut self) -> Result<Vec<Function<'t>>> {
        self.aliases()?;
        let token = self.peek();
        let wrapped = token.kind == Kind::Bare && matches!(token.text, "module" | "builtin.module");
        if wrapped {
            self.next()?;
            if self.peek().kind == Kind::Symbol {
                self.next()?;
            }
            if self.take_keyword("attributes")? {
                self.dict()?;
            }
            self.expect("{")?;
        }
        let mut functions = Vec::new();
        while self.at_keyword("func.func") || self.at_keyword("func") {
            functions.push(self.function()?);
        }
        if wrapped {
            self.expect("}")?;
            self.trailing_location()?;
            self.aliases()?;
        }
        if self.peek().kind != Kind::End {
            return self.unexpected("'func.func' or the end of the text");
        }
        Ok(functions)
    }

    /// `#name = attribute` and `!name = type` lines. They are read and dropped: nothing that the emulator looks
    /// at is ever spelled through an alias.
    fn aliases(&mut self) -> Result<()> {
        while matches!(self.peek().kind, Kind::Hash | Kind::Bang) {
            let bang = self.next()?.kind == Kind::Bang;
            self.expect("=")?;
            if bang {
                self.skip_type()?;
            } else {
                self.attribute()?;
            }
        }
        Ok(())
    }

    fn function(&mut self) -> Result<Function<'t>> {
        self.next()?;
        for visibility in ["public", "private", "nested"] {
            self.take_keyword(visibility)?;
        }
        let symbol = self.peek();
        if symbol.kind != Kind::Symbol {
            return self.unexpected("a function name");
        }
        self.next()?;
        let mut arguments = Vec::new();
        self.expect("(")?;
        while !self.take(")")? {
            let name = self.value_name()?;
            self.expect(":")?;
            let ty = self.ty()?;
            if self.at("{") {
                self.dict()?;
            }
            arguments.push((name, ty));
            if !self.at(")") {
                self.expect(",")?;
            }
        }
        let results = if self.take("->")? { self.result_types()? } else { Vec::new() };
        let attributes = if self.take_keyword("attributes")? { self.dict()? } else { Dict::default() };
        let mut body = self.region()?;
        body.arguments = arguments;
        self.trailing_location()?;
        let location = self.lexer.location(symbol.start);
        Ok(Function { name: &symbol.text[1..], location, results, attributes, body })
    }

    /// `T`, `(T, ..)` or `()`, each with an optional attribute dictionary.
    pub(super) fn result_types(&mut self) -> Result<Vec<Type>> {
        if !self.at("(") {
            return Ok(vec![self.ty()?]);
        }
        self.next()?;
        let mut types = Vec::new();
        while !self.take(")")? {
            types.push(self.ty()?);
            if self.at("{") {
                self.dict()?;
            }
            if !self.at(")") {
                self.expect(",")?;
            }
        }
        Ok(types)
    }

    /// `{ ops }` with at most one block, whose label may give its arguments.
    pub(super) fn region(&mut self) -> Result<Block<'t>> {
        self.enter()?;
        self.expect("{")?;
        let mut block = Block::default();
        if self.peek().kind == Kind::Block {
            self.next()?;
            if self.take("(")? {
                while !self.take(")")? {
                    let name = self.value_name()?;
                    self.expect(":")?;
                    block.arguments.push((name, self.ty()?));
                    if !self.at(")") {
                        self.expect(",")?;
                    }
                }
            }
            self.expect(":")?;
        }
        while !self.take("}")? {
            if self.peek().kind == Kind::Block {
                return self.unexpected("one block only: control flow is by scf ops");
            }
            block.ops.push(self.op()?);
        }
        self.leave();
        Ok(block)
    }

    fn op(&mut self) -> Result<Op<'t>> {
        let mut results = Vec::new();
        if self.peek().kind == Kind::Value {
            loop {
                let name = self.value_name()?;
                let count = if self.take(":")? { self.count()? } else { 1 };
                results.push((name, count));
                if !self.take(",")? {
                    break;
                }
            }
            self.expect("=")?;
        }
        let token = self.next()?;
        let location = self.lexer.location(token.start);
        let name = match token.kind {
            Kind::Bare => token.text,
            Kind::Str => &token.text[1..token.text.len() - 1],
            _ => return self.lexer.error(token.start, format!("expected an op, found '{}'", token.text)),
        };
        let mut op = Op {
            name,
            location,
            results,
            operands: Vec::new(),
            operand_types: Vec::new(),
            result_types: Vec::new(),
            attributes: Dict::default(),
            regions: Vec::new(),
            segments: None,
            dead: false,
            last_use: Vec::new(),
        };
        if token.kind == Kind::Str {
            self.generic_form(&mut op)?
        } else {
            self.pretty_form(&mut op)?
        }
        self.trailing_location()?;
        Ok(op)
    }

    /// `"op"(operands) <{properties}> ({regions}) {attributes} : (types) -> types`.
    fn generic_form(&mut self, op: &mut Op<'t>) -> Result<()> {
        self.expect("(")?;
        while !self.take(")")? {
            let operand = self.value_use()?;
            op.operands.push(operand);
            if !self.at(")") {
                self.expect(",")?;
            }
        }
        if self.take("<")? {
            op.attributes = self.dict()?;
            self.expect(">")?;
        }
        if self.take("(")? {
            while !self.take(")")? {
                op.regions.push(self.region()?);
                if !self.at(")") {
                    self.expect(",")?;
                }
            }
        }
        if self.at("{") {
            op.attributes.0.extend(self.dict()?.0);
        }
        self.expect(":")?;
        if !self.at("(") {
            return self.unexpected("'('");
        }
        op.operand_types = self.result_types()?.into_iter().map(Some).collect();
        if op.operand_types.len() != op.operands.len() {
            let message = format!("{} operands with {} types", op.operands.len(), op.operand_types.len());
            return Err(EmulatorError::Parse { location: op.location, message });
        }
        self.expect("->")?;
        op.result_types = self.result_types()?;
        let sizes =
            op.attributes.ints("operandSegmentSizes").or_else(|| op.attributes.ints("operand_segment_sizes"));
        op.segments =
            sizes.map(|s| s.into_iter().map(|n| usize::try_from(n).unwrap_or(usize::MAX)).collect());
        Ok(())
    }

    fn count(&mut self) -> Result<usize> {
        let token = self.peek();
        match token.text.parse() {
            Ok(n @ 1..=4096) if token.kind == Kind::Int => {
                self.next()?;
                Ok(n)
            }
            _ => self.unexpected("a number of results"),
        }
    }

    /// A value where it is defined.
    pub(super) fn value_name(&mut self) -> Result<ValueName<'t>> {
        let token = self.peek();
        if token.kind != Kind::Value {
            return self.unexpected("an SSA value");
        }
        self.next()?;
        Ok(ValueName { name: token.text, part: 0, location: self.lexer.location(token.start) })
    }

    /// A value where it is used: `%v` or `%v#1`.
    pub(super) fn value_use(&mut self) -> Result<ValueName<'t>> {
        let end = self.lexer.token_end();
        let mut value = self.value_name()?;
        let token = self.peek();
        if token.kind == Kind::Hash && token.start == end {
            match token.text[1..].parse() {
                Ok(part) => value.part = part,
                Err(_) => return self.unexpected("a result number"),
            }
            self.next()?;
        }
        Ok(value)
    }

    /// An optional `loc(..)`.
    fn trailing_location(&mut self) -> Result<()> {
        if self.take_keyword("loc")? {
            self.skip_balanced("(", ")")?;
        }
        Ok(())
    }

    pub(super) fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.lexer.error(self.peek().start, format!("nested deeper than {MAX_DEPTH}"));
        }
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    pub(super) fn peek(&self) -> Token<'t> {
        self.lexer.peek()
    }

    pub(super) fn next(&mut self) -> Result<Token<'t>> {
        self.lexer.next()
    }

    pub(super) fn location(&self) -> Location {
        self.lexer.location(self.peek().start)
    }

    pub(super) fn at(&self, punct: &str) -> bool {
        self.peek().kind == Kind::Punct && self.peek().text == punct
    }

    pub(super) fn at_keyword(&self, word: &str) -> bool {
        self.peek().kind == Kind::Bare && self.peek().text == word
    }

    pub(super) fn take(&mut self, punct: &str) -> Result<bool> {
        let found = self.at(punct);
        if found {
            self.next()?;
        }
        Ok(found)
    }

    pub(super) fn take_keyword(&mut self, word: &str) -> Result<bool> {
        let found = self.at_keyword(word);
        if found {
            self.next()?;
        }
        Ok(found)
    }

    /// A punctuation mark or a keyword that must come next.
    pub(super) fn expect(&mut self, text: &str) -> Result<()> {
        if self.take(text)? || self.take_keyword(text)? {
            Ok(())
        } else {
            self.unexpected(&format!("'{text}'"))
        }
    }

    pub(super) fn unexpected<T>(&self, expected: &str) -> Result<T> {
        let token = self.peek();
        let found = if token.kind == Kind::End {
            "the end of the text".to_owned()
        } else {
            format!("'{}'", token.text)
        };
        self.lexer.error(token.start, format!("expected {expected}, found {found}"))
    }
}
