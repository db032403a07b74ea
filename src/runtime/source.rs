use std::fmt;

pub(super) const NAMES_AND_PATHS: &str = "PJRT_NAMES_AND_LIBRARY_PATHS";
pub(super) const TPU_PATH: &str = "TPU_LIBRARY_PATH";
pub(super) const PLUGIN_PATH: &str = "PJRT_PLUGIN_LIBRARY_PATH";

/// What named a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The caller.
    Explicit,
    /// `PJRT_NAMES_AND_LIBRARY_PATHS`.
    NamesAndLibraryPaths,
    /// `TPU_LIBRARY_PATH`.
    TpuLibraryPath,
    /// `PJRT_PLUGIN_LIBRARY_PATH`.
    PluginLibraryPath,
    /// The project's `.tools` folder.
    ToolFolder,
    /// An installed Python package.
    PythonPackage,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Explicit => "explicit path",
            Self::NamesAndLibraryPaths => NAMES_AND_PATHS,
            Self::TpuLibraryPath => TPU_PATH,
            Self::PluginLibraryPath => PLUGIN_PATH,
            Self::ToolFolder => "tool folder",
            Self::PythonPackage => "Python package",
        })
    }
}
