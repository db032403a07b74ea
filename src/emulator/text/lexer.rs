//! Tokens of MLIR text.

use crate::emulator::error::{EmulatorError, Result};
use crate::emulator::location::Location;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Identifier or keyword, dots included: `arith.addf`.
    Bare,
    /// `%name` or `%0`, without a `#n` suffix.
    Value,
    /// `^bb0`.
    Block,
    /// `@symbol`.
    Symbol,
    /// `#alias` or `#dialect.attribute`.
    Hash,
    /// `!dialect.type`.
    Bang,
    /// `12`, `-3` or `0xFF`.
    Int,
    /// `1.5`, `-2.0e+01`.
    Float,
    /// A quoted string, quotes included.
    Str,
    Punct,
    End,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    pub(super) text: &'t str,
    pub(super) start: usize,
}

/// Largest text that is read; offsets and recursion stay far from any overflow.
const MAX_TEXT: usize = 64 << 20;

/// A cursor with one token of look-ahead. `seek` lets the parser re-read dimension lists, which no tokeniser
/// can cut (`4x8xf32` starts with the integer `4`).
pub(super) struct Lexer<'t> {
    text: &'t str,
    token: Token<'t>,
    end: usize,
    lines: Vec<usize>,
    comments: Vec<(usize, &'t str)>,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Result<Self> {
        if text.len() > MAX_TEXT {
            let message = format!("text of {} bytes; at most {MAX_TEXT} are read", text.len());
            return Err(EmulatorError::Parse { location: Location { line: 1, column: 1 }, message });
        }
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        let token = Token { kind: Kind::End, text: "", start: 0 };
        let mut lexer = Lexer { text, token, end: 0, lines, comments: Vec::new() };
        lexer.advance()?;
        Ok(lexer)
    }

    pub(super) fn peek(&self) -> Token<'t> {
        self.token
    }

    /// End offset of the token in `peek`.
    pub(super) fn token_end(&self) -> usize {
        self.end
    }

    pub(super) fn source(&self) -> &'t str {
        self.text
    }

    pub(super) fn location(&self, offset: usize) -> Location {
        let line = self.lines.partition_point(|&s| s <= offset);
        let start = self.lines[line - 1];
        let column = self.text.get(start..offset).map_or(0, |s| s.chars().count()) + 1;
        Location { line: line as u32, column: column as u32 }
    }

    /// Comments seen so far: offset and text after `//`.
    pub(super) fn comments(&self) -> &[(usize, &'t str)] {
        &self.comments
    }

    /// Continues reading at a byte offset.
    pub(super) fn seek(&mut self, offset: usize) -> Result<()> {
        self.end = offset;
        self.advance()
    }

    pub(super) fn error<T>(&self, offset: usize, message: impl Into<String>) -> Result<T> {
        Err(EmulatorError::Parse { location: self.location(offset), message: message.into() })
    }

    /// Moves to the next token and returns the one that was current.
    pub(super) fn next(&mut self) -> Result<Token<'t>> {
        let token = self.token;
        self.advance()?;
        Ok(token)
    }

    fn advance(&mut self) -> Result<()> {
        let bytes = self.text.as_bytes();
        let mut at = self.end;
        loop {
            match bytes.get(at) {
                Some(b' ' | b'\t' | b'\r' | b'\n') => at += 1,
                Some(b'/') if bytes.get(at + 1) == Some(&b'/') => {
                    let stop = self.text[at..].find('\n').map_or(bytes.len(), |n| at + n);
                    if self.comments.last().is_none_or(|&(last, _)| last < at) {
                        self.comments.push((at, &self.text[at + 2..stop]));
                    }
                    at = stop;
                }
                _ => break,
            }
        }
        let (kind, end) = self.scan(at)?;
        self.token = Token { kind, text: &self.text[at..end], start: at };
        self.end = end;
        Ok(())
    }

    fn scan(&self, at: usize) -> Result<(Kind, usize)> {
        let bytes = self.text.as_bytes();
        let run = |from: usize, ok: fn(u8) -> bool| {
            from + bytes[from.min(bytes.len())..].iter().take_while(|&&b| ok(b)).count()
        };
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$');
        let suffix = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$' | b'-');
        let Some(&first) = bytes.get(at) else { return Ok((Kind::End, at)) };
        let sigil = |kind: Kind, ok: fn(u8) -> bool| {
            let end = run(at + 1, ok);
            if end == at + 1 {
                self.error(at, format!("a name must follow '{}'", first as char))
            } else {
                Ok((kind, end))
            }
        };
        match first {
            b'%' => sigil(Kind::Value, suffix),
            b'^' => sigil(Kind::Block, suffix),
            b'#' => sigil(Kind::Hash, name),
            b'!' => sigil(Kind::Bang, name),
            b'@' if bytes.get(at + 1) == Some(&b'"') => Ok((Kind::Symbol, self.string_end(at + 1)?)),
            b'@' => sigil(Kind::Symbol, suffix),
            b'"' => Ok((Kind::Str, self.string_end(at)?)),
            b'-' if bytes.get(at + 1) == Some(&b'>') => Ok((Kind::Punct, at + 2)),
            b'-' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => Ok(self.number(at + 1)),
            b'0'..=b'9' => Ok(self.number(at)),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => Ok((Kind::Bare, run(at, name))),
            b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' | b',' | b':' | b'=' | b'?' | b'*'
            | b'+' | b'-' | b'|' => Ok((Kind::Punct, at + 1)),
            _ => {
                let c = self.text[at..].chars().next().unwrap_or('?');
                self.error(at, format!("unexpected character {c:?}"))
            }
        }
    }

    fn number(&self, digits: usize) -> (Kind, usize) {
        let bytes = self.text.as_bytes();
        let run =
            |from: usize, ok: fn(&u8) -> bool| from + bytes[from..].iter().take_while(|b| ok(b)).count();
        if bytes[digits] == b'0' && bytes.get(digits + 1) == Some(&b'x') {
            let end = run(digits + 2, u8::is_ascii_hexdigit);
            if end > digits + 2 {
                return (Kind::Int, end);
            }
        }
        let whole = run(digits, u8::is_ascii_digit);
        if bytes.get(whole) != Some(&b'.') {
            return (Kind::Int, whole);
        }
        let mut end = run(whole + 1, u8::is_ascii_digit);
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = run(sign.min(bytes.len()), u8::is_ascii_digit);
            if exponent > sign {
                end = exponent;
            }
        }
        (Kind::Float, end)
    }

    fn string_end(&self, open: usize) -> Result<usize> {
        let bytes = self.text.as_bytes();
        let mut at = open + 1;
        loop {
            match bytes.get(at) {
                Some(b'"') => return Ok(at + 1),
                Some(b'\\') => at += 2,
                Some(b'\n') | None => return self.error(open, "unterminated string"),
                Some(_) => at += 1,
            }
        }
    }
}
