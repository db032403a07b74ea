use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

/// So many segments of so many new tokens; in a document, a number alone is one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Segments {
    /// How many of them.
    pub count: usize,
    /// New tokens of each.
    pub tokens: usize,
}

impl<'de> Deserialize<'de> for Segments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Form)
    }
}

struct Form;

impl<'de> Visitor<'de> for Form {
    type Value = Segments;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tokens of a segment, or its count and tokens")
    }

    fn visit_u64<E: Error>(self, tokens: u64) -> Result<Segments, E> {
        let tokens =
            usize::try_from(tokens).map_err(|_| E::invalid_value(Unexpected::Unsigned(tokens), &self))?;
        Ok(Segments { count: 1, tokens })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Segments, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Many {
            count: usize,
            tokens: usize,
        }
        let Many { count, tokens } = Many::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Segments { count, tokens })
    }
}
