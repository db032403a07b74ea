use std::time::Duration;

use clap::Parser;

use engine::ModelArgs;
use serve::{BodyLimits, ConnectionLimits};

/// Serves `/v1/score` for one model.
#[derive(Debug, Parser)]
#[command(name = "serve")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// Port to listen on; 0 takes a free one, which standard output names
    #[arg(long, default_value_t = 8000)]
    pub(crate) port: u16,
    /// Name that requests and responses call the model by; the model file's without extension if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) served_model_name: Option<String>,
    /// Requests that may wait or be under way; more get 429
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) queue: usize,
    /// Connections; more wait to be accepted. Times max-body-bytes it bounds the memory of unread requests
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_connections: usize,
    /// Bytes of the largest request body; larger ones get 413
    #[arg(long, value_name = "N", default_value_t = 4 << 20)]
    max_body_bytes: usize,
    /// Seconds that a client may take to send a header, and then a body
    #[arg(long, value_name = "S", default_value_t = 30)]
    read_timeout: u64,
    /// Seconds that a client may take to read a response, after which the connection is closed
    #[arg(long, value_name = "S", default_value_t = 30)]
    write_timeout: u64,
    /// Seconds that connections get to finish after SIGTERM or SIGINT
    #[arg(long, value_name = "S", default_value_t = 60)]
    grace: u64,
    /// Compute every query anew instead of keeping queries in KV pages
    #[arg(long)]
    pub(crate) no_prefix_reuse: bool,
}

impl Args {
    pub(crate) fn body_limits(&self) -> BodyLimits {
        BodyLimits { bytes: self.max_body_bytes, time: Duration::from_secs(self.read_timeout) }
    }

    pub(crate) fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            connections: self.max_connections,
            header_time: Duration::from_secs(self.read_timeout),
            write_time: Duration::from_secs(self.write_timeout),
            grace: Duration::from_secs(self.grace),
        }
    }
}
