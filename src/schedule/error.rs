use std::path::PathBuf;

/// Why a kernel could not be compiled to a schedule, or its schedule not be read or executed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// No device kind has this name.
    #[error("device kind is {name:?}; it must be v5e, v6e or v7x")]
    Device {
        /// The name.
        name: String,
    },
    /// A StableHLO function is not of the form that this module can take a kernel out of.
    #[error("function {function}: {reason}")]
    Function {
        /// Name of the function.
        function: String,
        /// What was not understood.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The compiling child process failed.
    #[error("compiling for {device} failed ({status}): {output}")]
    Compile {
        /// Device kind.
        device: &'static str,
        /// Exit status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// The compiler wrote no schedule of the kernel.
    #[error("the compiler wrote no file {pattern} for kernel {kernel} into {}", directory.display())]
    NoDump {
        /// Name of the kernel.
        kernel: String,
        /// The end of the file name looked for.
        pattern: &'static str,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// A line of a listing was not understood.
    #[error("{file} line {line}: {reason}: {text}")]
    Listing {
        /// Which listing.
        file: &'static str,
        /// Line number from 1.
        line: usize,
        /// What is wrong.
        reason: String,
        /// The line, cut.
        text: String,
    },
    /// Scalar-prefetch operands were given in the wrong number or size.
    #[error("scalar-prefetch operand {index} has {found} words; the kernel takes {expected}")]
    Operand {
        /// Index of the operand.
        index: usize,
        /// Words given.
        found: usize,
        /// Words that the kernel takes.
        expected: usize,
    },
    /// The plugin that compiles failed.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::RuntimeError),
}

pub(super) fn file_error(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> ScheduleError {
    let path = path.to_owned();
    move |source| ScheduleError::File { path, source }
}
