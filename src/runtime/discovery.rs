use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Candidate, DiscoveryReport, Outcome, RuntimeError};
use super::plugin::Plugin;
use super::source::{NAMES_AND_PATHS, PLUGIN_PATH, Source, TPU_PATH};

const VARIABLES: [&str; 7] =
    [NAMES_AND_PATHS, TPU_PATH, PLUGIN_PATH, "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PATH"];

const LIBTPU: &str = "libtpu/libtpu.so";
/// Plugin files of known Python packages, relative to a `site-packages` folder.
const PACKAGE_FILES: [&str; 6] = [
    LIBTPU,
    "jax_plugins/xla_cuda13/xla_cuda_plugin.so",
    "jax_plugins/xla_cuda12/xla_cuda_plugin.so",
    "lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so",
    "fastatomstruct_xla_cpu/libpjrt_cpu.so",
    "xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so",
];

/// Where [`Plugin::discover`] looks, in this order:
///
/// 1. the explicit path; when one is given nothing else is tried;
/// 2. `PJRT_NAMES_AND_LIBRARY_PATHS` (`name:path,name:path`);
/// 3. `TPU_LIBRARY_PATH`;
/// 4. `PJRT_PLUGIN_LIBRARY_PATH`;
/// 5. the project's tool folder: `.tools/py-base` in the current directory or the nearest ancestor that has one;
/// 6. installed Python packages of `libtpu`, JAX's CUDA plugin and CPU plugins, without running Python. An installed
///    `libtpu` is passed over on a machine without a TPU.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryOptions {
    explicit: Option<PathBuf>,
    variables: BTreeMap<String, OsString>,
    directory: Option<PathBuf>,
}

impl DiscoveryOptions {
    /// Looks nowhere until told where.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Looks where the process's environment and current directory say.
    pub fn from_env() -> Self {
        let variables =
            VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?))).collect();
        Self { explicit: None, variables, directory: std::env::current_dir().ok() }
    }

    /// Loads this file and nothing else.
    pub fn explicit(mut self, path: impl Into<PathBuf>) -> Self {
        self.explicit = Some(path.into());
        self
    }

    /// Looks as if the environment variable had this value.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Looks for the tool folder from here upwards.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Every place that will be looked at, in order, without looking.
    fn places(&self) -> Vec<(Source, PathBuf)> {
        if let Some(path) = &self.explicit {
            return vec![(Source::Explicit, path.clone())];
        }
        let mut places = Vec::new();
        if let Some(list) = self.text(NAMES_AND_PATHS) {
            for entry in list.split(',').filter(|entry| !entry.trim().is_empty()) {
                // An entry without a name is taken as a path.
                let path = entry.split_once(':').map_or(entry, |(_, path)| path);
                places.push((Source::NamesAndLibraryPaths, path.trim().into()));
            }
        }
        for (name, source) in [(TPU_PATH, Source::TpuLibraryPath), (PLUGIN_PATH, Source::PluginLibraryPath)] {
            if let Some(path) = self.variables.get(name).filter(|path| !path.is_empty()) {
                places.push((source, path.into()));
            }
        }
        let tools = self.directory.iter().flat_map(|directory| directory.ancestors());
        if let Some(tools) =
            tools.map(|ancestor| ancestor.join(".tools/py-base")).find(|folder| folder.is_dir())
        {
            places.extend(present(&tools, Source::ToolFolder));
        }
        for folder in self.site_packages() {
            places.extend(present(&folder, Source::PythonPackage));
        }
        places
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.variables.get(name).and_then(|value| value.to_str())
    }

    /// Folders of installed Python packages, likeliest first.
    fn site_packages(&self) -> Vec<PathBuf> {
        let list = |name: &str| {
            let value = self.variables.get(name).map(OsString::as_os_str).unwrap_or(OsStr::new(""));
            std::env::split_paths(value).filter(|path| path.is_absolute()).collect::<Vec<_>>()
        };
        let mut folders = list("PYTHONPATH");
        let mut prefixes: Vec<PathBuf> = ["VIRTUAL_ENV", "CONDA_PREFIX"]
            .iter()
            .filter_map(|name| self.variables.get(*name))
            .map(Into::into)
            .collect();
        for bin in list("PATH") {
            let has_python = ["python3", "python"].iter().any(|name| bin.join(name).is_file());
            if let (true, Some(prefix)) = (has_python, bin.parent()) {
                // Debian's pip installs for /usr/bin/python3 into /usr/local.
                prefixes.extend([prefix.to_path_buf(), prefix.join("local")]);
            }
        }
        for lib in prefixes.iter().map(|prefix| prefix.join("lib")) {
            let Ok(entries) = lib.read_dir() else { continue };
            let mut pythons: Vec<PathBuf> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| {
                    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3"))
                })
                .collect();
            pythons.sort();
            for python in pythons.iter().rev() {
                folders.extend([python.join("site-packages"), python.join("dist-packages")]);
            }
        }
        let mut seen = BTreeSet::new();
        folders.retain(|folder| folder.is_dir() && seen.insert(folder.clone()));
        folders
    }

    /// Loads the first candidate that can be loaded.
    fn search(&self) -> (Option<Plugin>, DiscoveryReport) {
        let mut report = DiscoveryReport { candidates: Vec::new() };
        for (source, path) in self.places() {
            if source == Source::PythonPackage && path.ends_with(LIBTPU) && !has_tpu() {
                report.candidates.push(Candidate { source, path, outcome: Outcome::NoTpu });
                continue;
            }
            match Plugin::load(&path) {
                Ok(plugin) => {
                    report.candidates.push(Candidate { source, path, outcome: Outcome::Loaded });
                    return (Some(plugin), report);
                }
                Err(error) => {
                    tracing::warn!(%error, %source, "a PJRT plugin candidate could not be loaded");
                    report.candidates.push(Candidate {
                        source,
                        path,
                        outcome: Outcome::Failed(Arc::new(error)),
                    });
                }
            }
        }
        (None, report)
    }
}

impl Plugin {
    /// Loads the first usable plugin of those that [`DiscoveryOptions`] describes.
    ///
    /// # Errors
    /// [`RuntimeError::NoPlugin`] with every candidate and why it failed.
    pub fn discover(options: &DiscoveryOptions) -> Result<Self, RuntimeError> {
        let (plugin, report) = Self::discover_with_report(options);
        plugin.ok_or(RuntimeError::NoPlugin { report })
    }

    /// [`Plugin::discover`] that also tells which candidates were tried on the way.
    pub fn discover_with_report(options: &DiscoveryOptions) -> (Option<Self>, DiscoveryReport) {
        options.search()
    }
}

fn present(folder: &Path, source: Source) -> impl Iterator<Item = (Source, PathBuf)> {
    PACKAGE_FILES
        .iter()
        .map(|file| folder.join(file))
        .filter(|path| path.is_file())
        .map(move |path| (source, path))
}

/// Whether the kernel driver shows a TPU: `/dev/accel*`, or on newer machines a VFIO group.
fn has_tpu() -> bool {
    let any = |folder: &str, is_tpu: fn(&str) -> bool| {
        std::fs::read_dir(folder).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|e| is_tpu(&e.file_name().to_string_lossy())))
        })
    };
    any("/dev", |name| name.starts_with("accel")) || any("/dev/vfio", |name| name.parse::<u32>().is_ok())
}
