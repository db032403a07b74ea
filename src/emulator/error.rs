use super::fault::Fault;
use super::location::Location;

/// Why a kernel text was refused or its execution stopped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EmulatorError {
    /// The text is not in the syntax that the parser reads.
    #[error("{location}: {message}")]
    Parse {
        /// Where.
        location: Location,
        /// What was expected and what was found.
        message: String,
    },
    /// An op that the emulator does not implement.
    #[error("{location}: unknown op '{op}'")]
    UnknownOp {
        /// Where.
        location: Location,
        /// Its name.
        op: String,
    },
    /// The text parses, but an op or a function breaks a rule of types, values or attributes.
    #[error("{location}: '{op}': {message}")]
    Verify {
        /// Where.
        location: Location,
        /// The op or function.
        op: String,
        /// The rule and what breaks it.
        message: String,
    },
    /// The operands given to a run do not fit the kernel's signature.
    #[error("operands: {message}")]
    Operands {
        /// What does not fit.
        message: String,
    },
    /// Execution did something that is wrong on the device.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Execution reached [`RunOptions::max_steps`](super::RunOptions::max_steps).
    #[error("{location}: '{op}': stopped after {steps} ops (RunOptions::max_steps)")]
    StepLimit {
        /// The op that was next.
        location: Location,
        /// Its name.
        op: String,
        /// The limit.
        steps: u64,
    },
}

impl EmulatorError {
    pub(crate) fn verify(location: Location, op: &str, message: impl Into<String>) -> Self {
        EmulatorError::Verify { location, op: op.to_owned(), message: message.into() }
    }

    pub(crate) fn operands(message: impl Into<String>) -> Self {
        EmulatorError::Operands { message: message.into() }
    }

    /// Where in the text, if the error has a place there.
    pub fn location(&self) -> Option<Location> {
        match self {
            EmulatorError::Parse { location, .. }
            | EmulatorError::UnknownOp { location, .. }
            | EmulatorError::Verify { location, .. }
            | EmulatorError::StepLimit { location, .. } => Some(*location),
            EmulatorError::Fault(fault) => Some(fault.location),
            EmulatorError::Operands { .. } => None,
        }
    }
}

/// Result of the emulator's fallible calls.
pub type Result<T> = std::result::Result<T, EmulatorError>;
