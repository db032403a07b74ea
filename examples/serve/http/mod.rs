//! HTTP around a [`Dispatcher`](crate::engine::Dispatcher): routes, limits, metrics.
//!
//! Shared with the tests, which put other engines behind it.
#![allow(dead_code)]

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
