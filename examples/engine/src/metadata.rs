use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::RangeInclusive;

use anamnesis::GgufMetadataValue as Value;

use super::EngineError;
use super::shown::shown;

/// Largest count that kernels index by.
const INDEX: usize = i32::MAX as usize;

/// Metadata of a model file while it is read. What is read, or passed over on purpose, is marked; [`finish`](Self::finish)
/// refuses the rest, so that a file that asks for more than the engine computes is never run without it.
pub struct Metadata<'a> {
    entries: &'a HashMap<String, Value>,
    read: HashSet<&'a str>,
}

/// A value that asks for nothing: a factor of one, no experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Neutral<'a> {
    /// A count or a real number.
    Number(f64),
    /// A flag.
    Flag(bool),
    /// A text.
    Text(&'a str),
}

impl<'a> Metadata<'a> {
    /// Of these entries, none read yet.
    pub fn new(entries: &'a HashMap<String, Value>) -> Self {
        Metadata { entries, read: HashSet::new() }
    }

    /// A text.
    pub fn text(&mut self, key: &str) -> Result<&'a str, EngineError> {
        self.needed(key)?.as_string().ok_or_else(|| self.refused(key, "it must be a text"))
    }

    /// A count of at least one.
    pub fn count(&mut self, key: &str) -> Result<usize, EngineError> {
        self.needed(key)?;
        self.count_or(key, 0)
    }

    /// A count of at least one; `default` where there is none.
    pub fn count_or(&mut self, key: &str, default: usize) -> Result<usize, EngineError> {
        let Some(value) = self.value(key) else { return Ok(default) };
        let count = integer(value).and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|count| (1..=INDEX).contains(count));
        count.ok_or_else(|| self.refused(key, &format!("it must be a count of 1 to {INDEX}")))
    }

    /// A real number within bounds.
    pub fn real(&mut self, key: &str, bounds: RangeInclusive<f32>) -> Result<f32, EngineError> {
        self.needed(key)?;
        self.real_or(key, f32::NAN, bounds)
    }

    /// A real number within bounds; `default` where there is none.
    pub fn real_or(
        &mut self,
        key: &str,
        default: f32,
        bounds: RangeInclusive<f32>,
    ) -> Result<f32, EngineError> {
        let real = match self.value(key) {
            None => return Ok(default),
            Some(Value::F32(x)) => Some(*x),
            Some(Value::F64(x)) => Some(*x as f32),
            Some(_) => None,
        };
        real.filter(|real| bounds.contains(real)).ok_or_else(|| {
            let (least, most) = bounds.into_inner();
            self.refused(key, &format!("it must be a real number of {least:e} to {most:e}"))
        })
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &str) -> Result<&'a [String], EngineError> {
        let list = self.needed(key)?.as_array().and_then(|list| list.as_string_slice());
        list.ok_or_else(|| self.refused(key, "it must be a list of texts"))
    }

    /// A list of 32-bit integers.
    pub fn integers(&mut self, key: &str) -> Result<&'a [i32], EngineError> {
        let list = self.needed(key)?.as_array().and_then(|list| list.as_i32_slice());
        list.ok_or_else(|| self.refused(key, "it must be a list of 32-bit integers"))
    }

    /// Takes the key at values that ask for nothing; anything else is something that this engine does not compute.
    pub fn neutral(&mut self, key: &str, values: &[Neutral<'_>]) -> Result<(), EngineError> {
        let Some(value) = self.value(key) else { return Ok(()) };
        let found = match value {
            Value::Bool(on) => Some(Neutral::Flag(*on)),
            Value::String(text) => Some(Neutral::Text(text)),
            Value::F32(x) => Some(Neutral::Number((*x).into())),
            Value::F64(x) => Some(Neutral::Number(*x)),
            other => integer(other).map(|n| Neutral::Number(n as f64)),
        };
        if found.is_some_and(|found| values.contains(&found)) {
            return Ok(());
        }
        let values: Vec<String> = values.iter().map(Neutral::to_string).collect();
        Err(self.refused(key, &format!("this engine runs {} alone", values.join(" or "))))
    }

    /// Passes over a key, whatever it says.
    pub fn pass_over(&mut self, key: &str) {
        self.value(key);
    }

    /// Passes over every key that `harmless` says changes no result.
    pub fn pass_over_all(&mut self, harmless: impl Fn(&str) -> bool) {
        self.read.extend(self.entries.keys().map(String::as_str).filter(|key| harmless(key)));
    }

    /// An error about the key, with what the file has there.
    pub fn refused(&self, key: &str, expected: &str) -> EngineError {
        let found = self.entries.get(key).map_or_else(|| "missing".into(), describe);
        EngineError::Metadata { key: shown(key), found, expected: expected.into() }
    }

    /// Refuses a file with a key that nobody read.
    pub fn finish(self) -> Result<(), EngineError> {
        let unread = self.entries.keys().map(String::as_str).filter(|key| !self.read.contains(key)).min();
        match unread {
            None => Ok(()),
            Some(key) => Err(self.refused(key, "this engine does not know what that asks for")),
        }
    }

    fn value(&mut self, key: &str) -> Option<&'a Value> {
        let (key, value) = self.entries.get_key_value(key)?;
        self.read.insert(key);
        Some(value)
    }

    fn needed(&mut self, key: &str) -> Result<&'a Value, EngineError> {
        self.value(key).ok_or_else(|| self.refused(key, "this engine needs it"))
    }
}

impl fmt::Display for Neutral<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Neutral::Number(n) => n.fmt(f),
            Neutral::Flag(on) => on.fmt(f),
            Neutral::Text(text) => write!(f, "{text:?}"),
        }
    }
}

fn integer(value: &Value) -> Option<i128> {
    Some(match *value {
        Value::U8(n) => n.into(),
        Value::I8(n) => n.into(),
        Value::U16(n) => n.into(),
        Value::I16(n) => n.into(),
        Value::U32(n) => n.into(),
        Value::I32(n) => n.into(),
        Value::U64(n) => n.into(),
        Value::I64(n) => n.into(),
        _ => return None,
    })
}

/// The value in a few words.
fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", shown(text)),
        Value::Bool(on) => on.to_string(),
        // `{:?}` writes large and small ones in short.
        Value::F32(x) => format!("{x:?}"),
        Value::F64(x) => format!("{x:?}"),
        Value::Array(list) => format!("a list of {}", list.len()),
        other => integer(other).map_or_else(|| "of an unknown type".into(), |n| n.to_string()),
    }
}
