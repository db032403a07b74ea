use tpu_rpa::spec::SpecError;

/// Why a workload was refused, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", one_line(file))]
pub struct WorkloadError {
    /// The file or name that was asked for.
    pub file: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Neither a name nor a file that can be read.
    #[error("{reason}; a workload is {names} or a JSON file", names = crate::NAMES.join(", "))]
    Unreadable {
        /// What the file system said.
        reason: String,
    },
    /// Not of the form of a workload.
    #[error("{field}: {reason}")]
    Form {
        /// Path of the field.
        field: String,
        /// What was found, what is expected, and where.
        reason: String,
    },
    /// A number out of its bounds.
    #[error("{field} is {value}; it must be {bound}")]
    Value {
        /// Path of the field.
        field: String,
        /// The number.
        value: String,
        /// The bound.
        bound: String,
    },
    /// Heads, dims and types that no kernel is for.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl Problem {
    pub(crate) fn form(path: &str, error: &serde_json::Error) -> Self {
        let field = if path == "." { "document".to_owned() } else { one_line(path) };
        Problem::Form { field, reason: one_line(&error.to_string()) }
    }

    pub(crate) fn value(
        field: impl Into<String>,
        value: impl std::fmt::Display,
        bound: impl Into<String>,
    ) -> Self {
        Problem::Value { field: field.into(), value: value.to_string(), bound: bound.into() }
    }
}

/// Without what would break the line, and not too long for it.
fn one_line(text: &str) -> String {
    const MOST: usize = 240;
    let mut line = String::new();
    for c in text.chars() {
        if line.len() >= MOST {
            line.push('…');
            break;
        }
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
