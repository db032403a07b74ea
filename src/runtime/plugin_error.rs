use std::fmt;

/// A failed call into a plugin: which call, the code, and the plugin's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed ({code}): {message}{}", LineOf(.line))]
pub struct PluginError {
    call: &'static str,
    code: ErrorCode,
    message: String,
    line: Option<(usize, String)>,
}

/// Shows the line of a program behind a compiler's words.
struct LineOf<'a>(&'a Option<(usize, String)>);

impl fmt::Display for LineOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some((number, text)) => write!(f, "\nline {number}: {text}"),
        }
    }
}

impl PluginError {
    /// Longest message kept, in bytes. Compilers may append whole modules to theirs.
    const MAX_MESSAGE: usize = 4096;

    pub(crate) fn new(call: &'static str, code: ErrorCode, mut message: String) -> Self {
        if message.len() > Self::MAX_MESSAGE {
            let end = (0..=Self::MAX_MESSAGE).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
            let more = message.len() - end;
            message.truncate(end);
            message.push_str(&format!(" ... ({more} more bytes)"));
        }
        Self { call, code, message, line: None }
    }

    /// The same about a program whose text was compiled: where the words name a place in it, as `-:3:26`, with that line.
    pub(crate) fn about(mut self, program: &str) -> Self {
        let place = self.message.strip_prefix("-:").and_then(|rest| rest.split_once(':'));
        let number = place.and_then(|(line, _)| line.parse::<usize>().ok()).filter(|&line| line > 0);
        self.line = number.and_then(|number| {
            let text = program.lines().nth(number - 1)?.trim();
            Some((number, text.chars().take(Self::MAX_LINE).collect()))
        });
        self
    }

    /// Longest line of a program that is shown, in characters: a Mosaic kernel is one.
    const MAX_LINE: usize = 160;

    /// Where a compiler named a place in a program's text: that line's number from 1, and its first 160 characters.
    pub fn line(&self) -> Option<(usize, &str)> {
        self.line.as_ref().map(|(number, text)| (*number, text.as_str()))
    }

    /// The table entry that failed, such as `PJRT_Client_Compile`.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// The plugin's error code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The plugin's words, cut at 4096 bytes.
    pub fn message(&self) -> &str {
        &self.message
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal $text:literal,)*) => {
        /// Error code of the PJRT C API (the values of `absl::StatusCode`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// A value that this crate has no name for.
            Other(u32),
        }

        impl ErrorCode {
            pub(crate) fn from_raw(code: u32) -> Self {
                match code {
                    $($value => Self::$name,)*
                    other => Self::Other(other),
                }
            }
        }

        impl fmt::Display for ErrorCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($text),)*
                    Self::Other(code) => write!(f, "code {code}"),
                }
            }
        }
    };
}

codes! {
    /// The operation was cancelled.
    Cancelled = 1 "cancelled",
    /// No better code fits.
    Unknown = 2 "unknown",
    /// The caller passed something unusable.
    InvalidArgument = 3 "invalid argument",
    /// The operation took too long.
    DeadlineExceeded = 4 "deadline exceeded",
    /// Something named does not exist.
    NotFound = 5 "not found",
    /// Something to be made exists.
    AlreadyExists = 6 "already exists",
    /// The caller may not do this.
    PermissionDenied = 7 "permission denied",
    /// Out of memory or quota.
    ResourceExhausted = 8 "resource exhausted",
    /// The system is not in the needed state.
    FailedPrecondition = 9 "failed precondition",
    /// The operation was aborted.
    Aborted = 10 "aborted",
    /// Past the valid range.
    OutOfRange = 11 "out of range",
    /// The plugin does not implement this.
    Unimplemented = 12 "unimplemented",
    /// An invariant of the plugin is broken.
    Internal = 13 "internal",
    /// The service is not available now.
    Unavailable = 14 "unavailable",
    /// Data was lost.
    DataLoss = 15 "data loss",
    /// The caller is not authenticated.
    Unauthenticated = 16 "unauthenticated",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_characters() {
        let error = PluginError::new("call", ErrorCode::from_raw(3), "é".repeat(PluginError::MAX_MESSAGE));
        assert!(error.message().ends_with("é ... (4096 more bytes)"), "{}", &error.message()[4080..]);
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert_eq!(ErrorCode::from_raw(99).to_string(), "code 99");
    }
}
