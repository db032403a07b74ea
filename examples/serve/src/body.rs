use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;

use engine::wire::Failure;

/// A body of at most so many times the limit is read and dropped before the refusal: a client that is still writing
/// when the connection closes is reset, and may never read the response.
const DRAINED: u64 = 4;

/// What a client may send, and how slowly.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes of a body.
    pub bytes: usize,
    /// Time that a body may take to arrive.
    pub time: Duration,
}

impl BodyLimits {
    /// Reads a body whole. One that is declared far too long is refused unread.
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Failure> {
        let too_large = || {
            let message = format!("the body is larger than {} bytes", self.bytes);
            Failure::http(413, "request_too_large", message)
        };
        let declared =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if let Some(length) = declared.filter(|&length: &u64| length > self.bytes as u64) {
            if length <= DRAINED * self.bytes as u64 {
                tokio::time::timeout(self.time, drain(body)).await.ok();
            }
            return Err(too_large());
        }
        match tokio::time::timeout(self.time, to_bytes(body, self.bytes)).await {
            Ok(Ok(bytes)) => match encoding(headers) {
                None => Ok(bytes.into()),
                Some(encoding) => {
                    let message =
                        format!("the body's Content-Encoding is {encoding:?}; this server reads none");
                    Err(Failure::http(415, "unsupported_content_encoding", message))
                }
            },
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error);
                if cause.is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>()) {
                    return Err(too_large());
                }
                Err(Failure::http(400, "incomplete_body", "the body did not arrive whole"))
            }
            Err(_) => {
                let message = format!("the body took longer than {} s", self.time.as_secs_f64());
                Err(Failure::http(408, "request_timeout", message))
            }
        }
    }
}

/// The first encoding that would have to be undone.
fn encoding(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut names = values.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
    names.find(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"))
}

async fn drain(mut body: Body) {
    while let Some(Ok(_)) = body.frame().await {}
}
