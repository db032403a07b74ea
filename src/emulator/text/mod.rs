//! Text to syntax tree.

pub(crate) mod ast;
mod attributes;
mod formats;
mod lexer;
mod ops;
mod parser;

pub(crate) use formats::SIMPLE_OPS;
pub(crate) use parser::parse;
