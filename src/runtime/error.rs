//! Errors. The one of a search holds those of its candidates, so what a search reports is here too.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::extension::Extension;
use super::plugin_error::PluginError;
use super::source::{NAMES_AND_PATHS, PLUGIN_PATH, Source, TPU_PATH};
use crate::spec::DType;

/// Why loading a plugin, moving data, compiling or running failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A TPU is to be interpreted by a plugin that is no CPU's, or none that answers custom calls of this process.
    #[error("plugin {}: it cannot stand for an interpreted TPU: {reason}", path.display())]
    NoInterpreter {
        /// The plugin.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An environment variable names no kind of TPU.
    #[error("{variable} is {value:?}; it must be v5e, v6e or v7x")]
    TpuKind {
        /// The variable.
        variable: &'static str,
        /// What it says.
        value: String,
    },
    /// A program for TPU that cannot be interpreted.
    #[error("the program cannot be interpreted: {reason}")]
    Interpreted {
        /// Which call, and why.
        reason: String,
    },
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
        bound: String,
    },
    /// A client option is out of range.
    #[error("client option {field} is {value}; it must be from 1 to {most}")]
    ClientOption {
        /// The option.
        field: &'static str,
        /// Its value.
        value: i64,
        /// The greatest value.
        most: u32,
    },
    /// A topology's name says that it has no chips, or more than any.
    #[error("topology is {name:?}; its chips must be numbers from 1 joined by x, {most} chips at most")]
    TopologyChips {
        /// The name asked for.
        name: String,
        /// The most chips.
        most: usize,
    },
    /// The host has not the memory for so many elements.
    #[error("{len} elements of {dtype} are asked for; the host cannot allocate as many")]
    HostMemory {
        /// Number of elements.
        len: usize,
        /// Their type.
        dtype: DType,
    },
}

fn list(extensions: &[Extension]) -> String {
    let names: Vec<String> = extensions.iter().map(ToString::to_string).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

impl RuntimeError {
    /// The same about a program whose text was compiled, see [`PluginError::line`].
    pub(crate) fn about(self, program: &str) -> Self {
        match self {
            RuntimeError::Plugin(error) => error.about(program).into(),
            other => other,
        }
    }
}

/// What was tried to find a plugin. Displays as one line a candidate.
#[derive(Clone, Debug)]
pub struct DiscoveryReport {
    /// Candidates in the order in which they were tried; the last one may have been loaded.
    pub candidates: Vec<Candidate>,
}

impl fmt::Display for DiscoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.candidates.is_empty() {
            return write!(
                f,
                "  nothing: {NAMES_AND_PATHS}, {TPU_PATH} and {PLUGIN_PATH} are not set, there is no .tools folder \
                 (`make tools` makes it) and no Python package with a plugin"
            );
        }
        for (i, candidate) in self.candidates.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(
                f,
                "{newline}  {}: {}: {}",
                candidate.source,
                candidate.path.display(),
                candidate.outcome
            )?;
        }
        Ok(())
    }
}

/// One place where a plugin was looked for.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What named it.
    pub source: Source,
    /// The plugin file.
    pub path: PathBuf,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a candidate.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It was loaded.
    Loaded,
    /// An installed `libtpu`, passed over because the machine shows no TPU.
    NoTpu,
    /// It could not be loaded.
    Failed(Arc<RuntimeError>),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loaded => f.write_str("loaded"),
            Self::NoTpu => f.write_str("passed over: no /dev/accel* or /dev/vfio/<number> on this machine"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
