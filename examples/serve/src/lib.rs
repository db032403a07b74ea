//! HTTP around a [`Dispatcher`](engine::Dispatcher): routes, limits, metrics.
//!
//! Tests put other engines behind it.

mod app;
mod body;
mod connections;
mod deadline;
mod metrics;
mod openapi;

pub use app::{App, Model};
pub use body::BodyLimits;
pub use connections::{ConnectionLimits, serve};
pub use metrics::Metrics;
