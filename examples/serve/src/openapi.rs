use serde_json::{Value, json};

/// The API in OpenAPI 3.1, for a model of this name and vocabulary.
pub fn document(model: &str, vocabulary: usize) -> Value {
    // A constant of this program; the test that asks for it reads it.
    let mut document: Value = serde_json::from_str(include_str!("openapi.json")).unwrap_or_default();
    let schemas = &mut document["components"]["schemas"];
    schemas["TokenId"]["maximum"] = json!(vocabulary.saturating_sub(1));
    schemas["ScoreRequest"]["properties"]["model"]["enum"] = json!([model, null]);
    document
}
