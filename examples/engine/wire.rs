//! The JSON of `/v1/score`, one object a request and one a response.

use serde::Serialize;
use serde_json::{Map, Value, json};
use tpu_rpa::score::{self, ScoreError, ScoreRequest, ScoreResponse};

use super::{EngineError, Tokenizer};

/// Why a request got no scores, in the form that goes over the wire.
#[derive(Debug)]
pub struct Failure {
    message: String,
    kind: Kind,
    param: Option<String>,
    code: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    InvalidRequest,
    Server,
}

impl Failure {
    /// The request is at fault: `param` names the field.
    pub fn invalid(code: &'static str, param: Option<&str>, message: impl Into<String>) -> Self {
        let param = param.map(str::to_owned);
        Failure { message: message.into(), kind: Kind::InvalidRequest, param, code }
    }

    /// Machine-readable name of the kind of error.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// `{"error": {"message", "type", "param", "code"}}`
    pub fn to_json(&self) -> Value {
        let kind = match self.kind {
            Kind::InvalidRequest => "invalid_request_error",
            Kind::Server => "server_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl From<ScoreError> for Failure {
    fn from(error: ScoreError) -> Self {
        let kind = if error.is_invalid_request() { Kind::InvalidRequest } else { Kind::Server };
        Failure { message: error.to_string(), kind, param: error.param(), code: error.code() }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Failure { message: error.to_string(), kind: Kind::Server, param: None, code: "engine_error" }
    }
}

/// Reads one request. Query and items are texts, or lists of token ids, not both; fields of other APIs (`model`, …)
/// are passed over.
pub fn parse(json: &[u8], tokenizer: &Tokenizer, vocabulary: usize) -> Result<ScoreRequest, Failure> {
    let reader = Reader { tokenizer, vocabulary };
    let text = std::str::from_utf8(json)
        .map_err(|e| Failure::invalid("invalid_utf8", None, format!("the request is not UTF-8: {e}")))?;
    let value: Value = serde_json::from_str(text)
        .map_err(|e| Failure::invalid("invalid_json", None, format!("the request is not JSON: {e}")))?;
    let Value::Object(fields) = value else {
        return Err(wrong_type("request", "an object", &value));
    };
    let query = fields.get("query").ok_or_else(|| missing("query"))?;
    let items = fields.get("items").ok_or_else(|| missing("items"))?;
    let labels = fields.get("label_token_ids").ok_or_else(|| missing("label_token_ids"))?;
    let Value::Array(items) = items else {
        return Err(wrong_type("items", "a list of strings or a list of token id lists", items));
    };
    let differs =
        |item: &Value| (item.is_string() && query.is_array()) || (item.is_array() && query.is_string());
    if let Some(odd) = items.iter().position(differs) {
        let message = format!("items[{odd}] is {}, query is {}", kind_of(&items[odd]), kind_of(query));
        return Err(Failure::invalid("mixed_input", Some("items"), message));
    }
    Ok(ScoreRequest {
        query: reader.tokens("query", query)?,
        items: items
            .iter()
            .enumerate()
            .map(|(i, item)| reader.tokens(&format!("items[{i}]"), item))
            .collect::<Result<_, _>>()?,
        label_token_ids: reader.ids("label_token_ids", labels)?,
        apply_softmax: flag(&fields, "apply_softmax")?,
        item_first: flag(&fields, "item_first")?,
    })
}

/// A response as it goes over the wire.
#[derive(Debug, PartialEq, Serialize)]
pub struct Scoring {
    object: &'static str,
    scores: Vec<Vec<f32>>,
    logprobs: Vec<Vec<f32>>,
    usage: Usage,
}

#[derive(Debug, PartialEq, Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl From<ScoreResponse> for Scoring {
    fn from(response: ScoreResponse) -> Self {
        let score::Usage { prompt_tokens, total_tokens } = response.usage;
        Scoring {
            object: "scoring",
            scores: response.scores,
            logprobs: response.logprobs,
            usage: Usage { prompt_tokens, total_tokens },
        }
    }
}

struct Reader<'a> {
    tokenizer: &'a Tokenizer,
    vocabulary: usize,
}

impl Reader<'_> {
    fn tokens(&self, field: &str, value: &Value) -> Result<Vec<i32>, Failure> {
        match value {
            Value::String(text) => Ok(self.tokenizer.encode(text)?),
            _ => self.ids(field, value),
        }
    }

    fn ids(&self, field: &str, value: &Value) -> Result<Vec<i32>, Failure> {
        let Value::Array(ids) = value else {
            let expected = if field == "label_token_ids" {
                "a list of token ids"
            } else {
                "a string or a list of token ids"
            };
            return Err(wrong_type(field, expected, value));
        };
        ids.iter().enumerate().map(|(i, id)| self.id(field, i, id)).collect()
    }

    /// An integer of any size is a token id in the wrong range; anything else is of the wrong type.
    fn id(&self, field: &str, index: usize, value: &Value) -> Result<i32, Failure> {
        let Some(id) = value.as_i64().or_else(|| value.as_u64().map(|_| i64::MAX)) else {
            return Err(wrong_type(&format!("{field}[{index}]"), "a token id", value));
        };
        i32::try_from(id).map_err(|_| {
            let vocabulary = self.vocabulary;
            ScoreError::TokenOutOfRange { field: field.to_owned(), index, value: id, vocabulary }.into()
        })
    }
}

fn flag(fields: &Map<String, Value>, name: &str) -> Result<bool, Failure> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(other) => Err(wrong_type(name, "true or false", other)),
    }
}

fn missing(field: &str) -> Failure {
    Failure::invalid("missing_field", Some(field), format!("{field} is missing"))
}

fn wrong_type(field: &str, expected: &str, found: &Value) -> Failure {
    let message = format!("{field} is {}; it must be {expected}", kind_of(found));
    Failure::invalid("wrong_type", Some(field), message)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a flag",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
