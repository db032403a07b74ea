use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tpu_rpa::score::ScoreRequest;

use super::body::BodyLimits;
use super::{Metrics, openapi};
use engine::wire::{Failure, Reader, Scoring};
use engine::{DispatchError, Dispatcher, Tokenizer};

/// The model as requests see it.
pub struct Model {
    /// What requests call it.
    pub name: String,
    /// Makes ids of texts.
    pub tokenizer: Tokenizer,
    /// Token ids are below it.
    pub vocabulary: usize,
}

/// The server's routes and what they share. Clones are the same server.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

struct Inner {
    model: Model,
    dispatcher: Dispatcher,
    metrics: Arc<Metrics>,
    limits: BodyLimits,
    started: u64,
}

impl App {
    /// A server of one model.
    pub fn new(model: Model, dispatcher: Dispatcher, metrics: Arc<Metrics>, limits: BodyLimits) -> Self {
        App { inner: Arc::new(Inner { model, dispatcher, metrics, limits, started: now() }) }
    }

    /// Its routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/v1/score", post(score))
            .route("/v1/models", get(models))
            .route("/v1/models/{*name}", get(model))
            .route("/health", get(health))
            .route("/metrics", get(metrics))
            .route("/openapi.json", get(document))
            .method_not_allowed_fallback(async || {
                refusal(&Failure::http(405, "method_not_allowed", "this path has other methods"))
            })
            .fallback(async || refusal(&Failure::http(404, "not_found", "there is nothing at this path")))
            .with_state(self)
    }

    /// JSON to tokens, away from the threads that serve connections: a long text takes a while.
    async fn parse(&self, body: Vec<u8>) -> Result<ScoreRequest, Failure> {
        let inner = Arc::clone(&self.inner);
        let parse = move || {
            let model = &inner.model;
            let (tokenizer, vocabulary) = (&model.tokenizer, model.vocabulary);
            Reader { tokenizer, vocabulary, model: Some(&model.name) }.parse(&body)
        };
        let parsed = tokio::task::spawn_blocking(parse).await;
        parsed.unwrap_or_else(|error| Err(Failure::internal(error.to_string())))
    }

    async fn answer(&self, headers: &HeaderMap, body: Body) -> Result<(Scoring, usize), Failure> {
        let body = self.inner.limits.read(headers, body).await?;
        let request = self.parse(body).await?;
        let items = request.items.len();
        let response = self.inner.dispatcher.score(request).await.map_err(|error| match error {
            DispatchError::Full { .. } => Failure::busy(),
            DispatchError::Score(error) => Failure::from(error),
            DispatchError::Ended => Failure::internal(error.to_string()),
        })?;
        self.inner.metrics.scored(items, response.usage.prompt_tokens);
        Ok((Scoring::of_model(response, &self.inner.model.name, now()), items))
    }
}

async fn score(State(app): State<App>, request: Request) -> Response {
    let start = Instant::now();
    let (parts, body) = request.into_parts();
    let metrics = &app.inner.metrics;
    match app.answer(&parts.headers, body).await {
        Ok((scoring, _)) => {
            metrics.answered(200, "", start.elapsed());
            Json(scoring).into_response()
        }
        Err(failure) => {
            if let Some(detail) = failure.detail() {
                tracing::error!(detail, "a request failed");
            }
            metrics.answered(failure.status(), failure.code(), start.elapsed());
            refusal(&failure)
        }
    }
}

async fn models(State(app): State<App>) -> Response {
    Json(json!({"object": "list", "data": [card(&app)]})).into_response()
}

async fn model(State(app): State<App>, axum::extract::Path(name): axum::extract::Path<String>) -> Response {
    if name == app.inner.model.name {
        return Json(card(&app)).into_response();
    }
    refusal(&Failure::http(404, "model_not_found", "this server has no such model"))
}

fn card(app: &App) -> serde_json::Value {
    json!({"id": app.inner.model.name, "object": "model", "created": app.inner.started, "owned_by": "tpu-rpa"})
}

async fn document(State(app): State<App>) -> Response {
    let model = &app.inner.model;
    Json(openapi::document(&model.name, model.vocabulary)).into_response()
}

async fn health(State(app): State<App>) -> Response {
    if app.inner.dispatcher.is_alive() {
        return Json(json!({"status": "ok"})).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "the device thread has ended"}))).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    match app.inner.metrics.encode(app.inner.dispatcher.pending()) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => refusal(&Failure::internal(error.to_string())),
    }
}

fn refusal(failure: &Failure) -> Response {
    let status = StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(failure.to_json())).into_response();
    let headers = response.headers_mut();
    match failure.status() {
        429 => {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        // What is left of the body is not read.
        408 | 413 => {
            headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        }
        415 => {
            headers.insert(header::ACCEPT_ENCODING, header::HeaderValue::from_static("identity"));
        }
        _ => {}
    }
    response
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
