//! The JSON of `/v1/score`, one object a request and one a response.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tpu_rpa::score::{self, ScoreError, ScoreRequest, ScoreResponse};

use super::shown::shown;
use super::{EngineError, Tokenizer, one_line};

/// Why a request got no scores, in the form that goes over the wire.
#[derive(Debug)]
pub struct Failure {
    message: String,
    kind: Kind,
    param: Option<String>,
    code: &'static str,
    /// What the log is told and the client is not.
    detail: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Malformed: some field is missing or of the wrong kind.
    Malformed,
    /// Well-formed, but more than this model or engine takes.
    Unprocessable,
    /// Anything else with a status of its own.
    Http(u16),
    Busy,
    Server,
}

/// Code of what the server is at fault for.
const INTERNAL: &str = "internal_error";

impl Failure {
    /// The request is at fault: `param` names the field.
    pub fn invalid(code: &'static str, param: Option<&str>, message: impl Into<String>) -> Self {
        Failure::new(Kind::Malformed, code, param.map(str::to_owned), message)
    }

    /// The request is at fault in a way that HTTP has a status for.
    pub fn http(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Failure::new(Kind::Http(status), code, None, message)
    }

    /// The server has as many requests as it takes.
    pub fn busy() -> Self {
        let message = "the server has as many requests as it takes; try again later";
        Failure::new(Kind::Busy, "rate_limit_exceeded", None, message)
    }

    /// The server is at fault. `detail` is for its log alone.
    pub fn internal(detail: impl Into<String>) -> Self {
        let message = "the server failed to score this request";
        let detail = Some(detail.into());
        Failure { detail, ..Failure::new(Kind::Server, INTERNAL, None, message) }
    }

    fn new(kind: Kind, code: &'static str, param: Option<String>, message: impl Into<String>) -> Self {
        Failure { message: message.into(), kind, param, code, detail: None }
    }

    /// Machine-readable name of the kind of error.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self.kind {
            Kind::Malformed => 400,
            Kind::Unprocessable => 422,
            Kind::Http(status) => status,
            Kind::Busy => 429,
            Kind::Server => 500,
        }
    }

    /// What went wrong inside, for a log.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// With what went wrong inside as its message: for who runs the engine, not for who asks it.
    pub fn in_full(mut self) -> Self {
        if let Some(detail) = self.detail.take() {
            self.message = detail;
        }
        self
    }

    /// `{"error": {"message", "type", "param", "code"}}`
    pub fn to_json(&self) -> Value {
        let kind = match self.kind {
            Kind::Malformed | Kind::Unprocessable | Kind::Http(_) => "invalid_request_error",
            Kind::Busy => "rate_limit_error",
            Kind::Server => "server_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl From<ScoreError> for Failure {
    fn from(error: ScoreError) -> Self {
        use Kind::{Malformed, Server, Unprocessable};
        let (kind, code) = match &error {
            ScoreError::NoItems => (Malformed, "empty_items"),
            ScoreError::NoLabels => (Malformed, "empty_label_token_ids"),
            ScoreError::EmptyPrompt { .. } => (Malformed, "empty_query"),
            ScoreError::TokenOutOfRange { value, .. } => token_out_of_range(*value < 0),
            ScoreError::ContextLength { .. }
            | ScoreError::ItemTooLong { .. }
            | ScoreError::QueryTooLong { .. } => (Unprocessable, "prompt_too_long"),
            ScoreError::TooManyItems { .. } => (Unprocessable, "too_many_items"),
            ScoreError::TooManyLabels { .. } => (Unprocessable, "too_many_labels"),
            ScoreError::TooManyTokens { .. } => (Unprocessable, "too_many_tokens"),
            // Words of the engine and of the planner are about the inside.
            ScoreError::Engine(_) | ScoreError::Batch(_) => return Failure::internal(one_line(&error)),
            _ => (Server, INTERNAL),
        };
        let param = if code == "empty_query" { Some("query".to_owned()) } else { error.param() };
        Failure::new(kind, code, param, error.to_string())
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Failure::internal(one_line(&error))
    }
}

/// Reads requests for one model.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// Makes ids of texts.
    pub tokenizer: &'a Tokenizer,
    /// Token ids are below it.
    pub vocabulary: usize,
    /// The only model that requests may name; `None` passes over what they name.
    pub model: Option<&'a str>,
}

impl Reader<'_> {
    /// Reads one request. Query and items are texts, or lists of token ids, not both; one text stands for one item. Fields of
    /// other APIs are passed over; `null` stands for a field that is not there.
    pub fn parse(&self, json: &[u8]) -> Result<ScoreRequest, Failure> {
        let text = std::str::from_utf8(json)
            .map_err(|e| Failure::invalid("invalid_utf8", None, format!("the request is not UTF-8: {e}")))?;
        let value: Value = serde_json::from_str(text)
            .map_err(|e| Failure::invalid("invalid_json", None, format!("the request is not JSON: {e}")))?;
        let Value::Object(fields) = value else {
            return Err(wrong_type("invalid_request_type", "request", "an object", &value));
        };
        let field = |name: &str| fields.get(name).filter(|value| !value.is_null());
        if let (Some(model), Some(name)) = (field("model"), self.model)
            && model.as_str() != Some(name)
        {
            let message = format!("this server has no such model; its model is {name:?}");
            return Err(Failure::invalid("model_not_found", Some("model"), message));
        }
        let query = field("query").ok_or_else(|| missing("missing_query", "query"))?;
        if !query.is_string() && !query.is_array() {
            return Err(wrong_type("invalid_query_type", "query", TEXT_OR_IDS, query));
        }
        let items = field("items").ok_or_else(|| missing("missing_items", "items"))?;
        let items = match items {
            Value::Array(items) => &items[..],
            // One item.
            Value::String(_) => std::slice::from_ref(items),
            other => {
                let expected = "a string, a list of strings or a list of token id lists";
                return Err(wrong_type("invalid_items_type", "items", expected, other));
            }
        };
        for (i, item) in items.iter().enumerate() {
            if !item.is_string() && !item.is_array() {
                return Err(wrong_type("invalid_items_type", &format!("items[{i}]"), TEXT_OR_IDS, item));
            }
            if item.is_string() != query.is_string() {
                let message = format!("items[{i}] is {}, query is {}", kind_of(item), kind_of(query));
                return Err(Failure::invalid("mixed_input_types", Some("items"), message));
            }
        }
        let labels =
            field("label_token_ids").ok_or_else(|| missing("missing_label_token_ids", "label_token_ids"))?;
        let Value::Array(labels) = labels else {
            let expected = "a list of token ids";
            return Err(wrong_type("invalid_label_token_ids_type", "label_token_ids", expected, labels));
        };
        Ok(ScoreRequest {
            query: self.tokens(text, "query", query)?,
            items: items
                .iter()
                .enumerate()
                .map(|(i, item)| self.tokens(text, &format!("items[{i}]"), item))
                .collect::<Result<_, _>>()?,
            label_token_ids: self.ids(text, "label_token_ids", labels)?,
            apply_softmax: flag(field("apply_softmax"), "invalid_apply_softmax_type", "apply_softmax")?,
            item_first: flag(field("item_first"), "invalid_item_first_type", "item_first")?,
        })
    }

    fn tokens(&self, request: &str, field: &str, value: &Value) -> Result<Vec<i32>, Failure> {
        match value {
            Value::String(text) => Ok(self.tokenizer.encode(text)?),
            Value::Array(ids) => self.ids(request, field, ids),
            other => Err(wrong_type("invalid_items_type", field, TEXT_OR_IDS, other)),
        }
    }

    fn ids(&self, request: &str, field: &str, ids: &[Value]) -> Result<Vec<i32>, Failure> {
        ids.iter().enumerate().map(|(i, id)| self.id(request, field, i, id)).collect()
    }

    /// An integer of any size is a token id in the wrong range; anything else is of the wrong type.
    fn id(&self, request: &str, field: &str, index: usize, value: &Value) -> Result<i32, Failure> {
        if let Some(id) = value.as_i64() {
            return i32::try_from(id).map_err(|_| {
                let vocabulary = self.vocabulary;
                ScoreError::TokenOutOfRange { field: field.to_owned(), index, value: id, vocabulary }.into()
            });
        }
        let name = format!("{field}[{index}]");
        // Integers beyond 64 bits are read as reals.
        let Some(real) = value.as_f64().filter(|real| real.abs() >= 2f64.powi(63)) else {
            return Err(wrong_type("invalid_token_id_type", &name, "a token id", value));
        };
        let (kind, code) = token_out_of_range(real < 0.0);
        let sent = as_sent(request, field, index).unwrap_or_else(|| value.to_string());
        let message = format!("{name} is {}; it must be in 0..{}", shown(&sent), self.vocabulary);
        Err(Failure::new(kind, code, Some(name), message))
    }
}

fn token_out_of_range(negative: bool) -> (Kind, &'static str) {
    if negative {
        (Kind::Malformed, "negative_token_id")
    } else {
        (Kind::Unprocessable, "token_id_exceeds_vocab")
    }
}

/// The digits of an id in the request: of `label_token_ids`, `query`, or `items[3]`.
fn as_sent(request: &str, field: &str, index: usize) -> Option<String> {
    let fields: HashMap<String, &RawValue> = serde_json::from_str(request).ok()?;
    let list = |json: &'_ RawValue| serde_json::from_str::<Vec<Box<RawValue>>>(json.get()).ok();
    let ids = match field.strip_suffix(']').and_then(|field| field.split_once('[')) {
        Some((name, item)) => list(list(fields.get(name)?)?.get(item.parse::<usize>().ok()?)?)?,
        None => list(fields.get(field)?)?,
    };
    Some(ids.get(index)?.get().to_owned())
}

const TEXT_OR_IDS: &str = "a string or a list of token ids";

/// A response as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scoring {
    object: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    scores: Vec<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<Vec<f32>>>,
    usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

impl Scoring {
    /// With log-probs: the response of the command line.
    pub fn with_logprobs(response: ScoreResponse) -> Self {
        let score::Usage { prompt_tokens, total_tokens } = response.usage;
        Scoring {
            object: "scoring",
            model: None,
            scores: response.scores,
            logprobs: Some(response.logprobs),
            usage: Usage { prompt_tokens, completion_tokens: 0, total_tokens },
            created: None,
        }
    }

    /// With the model's name and the time in seconds since 1970: the response of the server.
    pub fn of_model(response: ScoreResponse, model: &str, created: u64) -> Self {
        let (model, created) = (Some(model.to_owned()), Some(created));
        Scoring { model, logprobs: None, created, ..Scoring::with_logprobs(response) }
    }
}

fn flag(value: Option<&Value>, code: &'static str, name: &str) -> Result<bool, Failure> {
    match value {
        None => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(other) => Err(wrong_type(code, name, "true or false", other)),
    }
}

fn missing(code: &'static str, field: &str) -> Failure {
    Failure::invalid(code, Some(field), format!("{field} is missing"))
}

fn wrong_type(code: &'static str, field: &str, expected: &str, found: &Value) -> Failure {
    let message = format!("{field} is {}; it must be {expected}", kind_of(found));
    Failure::invalid(code, Some(field), message)
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
