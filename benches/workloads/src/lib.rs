//! Workloads that kernels are judged by, as JSON documents: `README.md` beside this crate says what they may hold.

mod attention;
mod batch;
mod error;
mod labels;
mod segments;
mod source;

pub use attention::{Attention, GroupShape};
pub use batch::Batch;
pub use error::{Problem, WorkloadError};
pub use labels::Labels;
pub use segments::Segments;
pub use source::{NAMES, Source, VARIABLE};
pub use tpu_rpa::spec::DType;

/// What a document describes.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum Workload {
    /// Attention of a batch.
    Attention(Attention),
    /// Label log-probs.
    Labels(Labels),
}

impl Workload {
    /// Reads a document and checks all of it.
    ///
    /// # Errors
    /// Names the field, the value and the bound.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        /// The field by which the two kinds differ.
        #[derive(serde::Deserialize)]
        struct Kind {
            hidden: Option<serde::de::IgnoredAny>,
        }
        let kind: Kind = parse(text)?;
        let workload = match kind.hidden {
            Some(_) => Workload::Labels(parse(text)?),
            None => Workload::Attention(parse(text)?),
        };
        workload.check()?;
        Ok(workload)
    }

    /// Holds every number against its bounds, as after a change.
    ///
    /// # Errors
    /// As for [`Workload::parse`].
    pub fn check(&self) -> Result<(), Problem> {
        match self {
            Workload::Attention(attention) => attention.check(),
            Workload::Labels(labels) => labels.check(),
        }
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    let mut document = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut document)
        .map_err(|e| Problem::form(&e.path().to_string(), e.inner()))?;
    document.end().map_err(|e| Problem::form(".", &e))?;
    Ok(value)
}
