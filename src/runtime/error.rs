use std::fmt;
use std::path::PathBuf;

use super::discovery::DiscoveryReport;
use super::profiler::Extension;
use crate::spec::DType;

/// Why loading a plugin, moving data, compiling or running failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// No candidate for a plugin could be loaded.
    #[error("no PJRT plugin could be loaded; tried:\n{report}")]
    NoPlugin {
        /// Every candidate with its outcome.
        report: DiscoveryReport,
    },
    /// The plugin path cannot be read.
    #[error("plugin {}: {source}", path.display())]
    PluginFile {
        /// The path asked for.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The dynamic loader refused the file.
    #[error("plugin {}: not a loadable shared object: {reason}", path.display())]
    PluginOpen {
        /// The file.
        path: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// The shared object is not a PJRT plugin.
    #[error("plugin {}: it exports no symbol {symbol}", path.display())]
    PluginSymbol {
        /// The file.
        path: PathBuf,
        /// The missing symbol.
        symbol: &'static str,
    },
    /// `GetPjrtApi` returned null.
    #[error("plugin {}: GetPjrtApi returned a null table", path.display())]
    PluginNullTable {
        /// The file.
        path: PathBuf,
    },
    /// The plugin's function table is older than the oldest supported one.
    #[error("plugin {}: its function table has {size} bytes; at least {min} are needed (PJRT C API 0.54)", path.display())]
    PluginTableSize {
        /// The file.
        path: PathBuf,
        /// Size of its table in bytes.
        size: usize,
        /// Smallest supported size in bytes.
        min: usize,
    },
    /// The plugin speaks another major version of the PJRT C API.
    #[error("plugin {}: PJRT C API {major}.{minor}; major version {supported} is supported", path.display())]
    PluginVersion {
        /// The file.
        path: PathBuf,
        /// Its major version.
        major: i32,
        /// Its minor version.
        minor: i32,
        /// The supported major version.
        supported: i32,
    },
    /// The plugin leaves this function out of its table.
    #[error("{entry} is missing in this plugin")]
    MissingEntry {
        /// Name of the table entry.
        entry: &'static str,
    },
    /// The plugin does not offer this extension of the C API.
    #[error("this plugin has no {extension} extension; it has: {}", list(found))]
    MissingExtension {
        /// Name of the extension.
        extension: &'static str,
        /// Those that it has.
        found: Vec<Extension>,
    },
    /// A call into the plugin failed.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The plugin reported success but returned no object.
    #[error("{call} succeeded but returned a null {what}")]
    NullObject {
        /// The call.
        call: &'static str,
        /// The object that is missing.
        what: &'static str,
    },
    /// The client has no device that this process can use.
    #[error("platform {platform} has no addressable device")]
    NoDevices {
        /// Platform name of the client.
        platform: String,
    },
    /// A topology's devices are of no or of several kinds.
    #[error("topology {name} does not have devices of exactly one kind")]
    MixedTopology {
        /// Name of the topology.
        name: String,
    },
    /// A device index is not below the device count.
    #[error("device index is {index}; the client has {count} addressable devices")]
    DeviceIndex {
        /// The index asked for.
        index: usize,
        /// Number of addressable devices.
        count: usize,
    },
    /// A shape's byte size overflows.
    #[error("dims are {dims:?}; their byte size must be at most {}", isize::MAX)]
    ShapeOverflow {
        /// The shape.
        dims: Vec<usize>,
    },
    /// A host slice does not have the shape's number of elements.
    #[error("{what} has {found} elements; dims {dims:?} need {expected}")]
    ElementCount {
        /// Which slice.
        what: &'static str,
        /// Its length.
        found: usize,
        /// Elements of the shape.
        expected: usize,
        /// The shape.
        dims: Vec<usize>,
    },
    /// A buffer was read as another element type than it has.
    #[error("buffer holds {found}; it was read as {requested}")]
    BufferDType {
        /// What the buffer holds.
        found: DType,
        /// What was asked for.
        requested: DType,
    },
    /// The program returns an element type that this crate has no name for.
    #[error("output {index} has PJRT element type {code}; supported: f32, bf16, i32")]
    OutputElementType {
        /// Index of the output.
        index: usize,
        /// The `PJRT_Buffer_Type` value.
        code: u32,
    },
    /// Wrong number of arguments.
    #[error("program takes {expected} arguments; {found} were given for device {device}")]
    ArgumentCount {
        /// Parameters of the program.
        expected: usize,
        /// Arguments given.
        found: usize,
        /// Index of the device within the launch.
        device: usize,
    },
    /// An argument has the wrong element type.
    #[error("argument {index} is {found}; the program takes {expected}")]
    ArgumentDType {
        /// Index of the argument.
        index: usize,
        /// The parameter's element type, as the program spells it.
        expected: String,
        /// The buffer's element type.
        found: DType,
    },
    /// An argument has the wrong shape.
    #[error("argument {index} has dims {found:?}; the program takes {expected}")]
    ArgumentShape {
        /// Index of the argument.
        index: usize,
        /// The parameter's type, as the program spells it.
        expected: String,
        /// The buffer's shape.
        found: Vec<usize>,
    },
    /// An argument was donated or deleted before.
    #[error("argument {index} was donated to an earlier launch or deleted")]
    ArgumentDeleted {
        /// Index of the argument.
        index: usize,
    },
    /// An argument lives in another client than the program.
    #[error("argument {index} belongs to another client than the executable")]
    ForeignArgument {
        /// Index of the argument.
        index: usize,
    },
    /// An argument is donated on one device and kept on another.
    #[error("argument {index} is donated on one of device 0 and device {device} and kept on the other")]
    DonationPattern {
        /// Index of the argument.
        index: usize,
        /// Index of the device within the launch.
        device: usize,
    },
    /// Arguments were given for the wrong number of devices.
    #[error("program runs on {expected} devices (replicas x partitions); arguments were given for {found}")]
    DeviceCount {
        /// Devices of the program.
        expected: usize,
        /// Argument lists given.
        found: usize,
    },
    /// A compile option is out of range.
    #[error("compile option {field} is {value}; it must be {bound}")]
    CompileOption {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i64,
        /// The bound, as text.
        bound: &'static str,
    },
}

fn list(extensions: &[Extension]) -> String {
    let names: Vec<String> = extensions.iter().map(ToString::to_string).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// A failed call into a plugin: which call, the code, and the plugin's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed ({code}): {message}")]
pub struct PluginError {
    call: &'static str,
    code: ErrorCode,
    message: String,
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
        Self { call, code, message }
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
