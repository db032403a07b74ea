use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::error::RuntimeError;
use super::extension::Extension;
use super::ffi::abi::Table;
use super::ffi::library::{self, TableAddress};
use super::options::OptionValue;

/// A loaded PJRT plugin. Cheap to clone; the library stays loaded until the process ends.
#[derive(Clone, Copy)]
pub struct Plugin {
    table: &'static Table,
}

/// Plugins loaded so far, by file and by table: one library is initialised once, under however many paths.
#[derive(Default)]
struct Registry {
    by_path: HashMap<PathBuf, Plugin>,
    by_table: HashMap<TableAddress, Plugin>,
}

impl Plugin {
    /// Loads a plugin file, or returns the plugin that was loaded from it before.
    ///
    /// Loading runs the file's code: it must come from where the process's own code comes from.
    ///
    /// # Errors
    /// The file is missing, is no shared object, is no PJRT plugin, has a too old table or another major version, or
    /// its initialisation fails.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, RuntimeError> {
        static REGISTRY: OnceLock<Mutex<Registry>> = OnceLock::new();
        let path = path.as_ref();
        let path = path
            .canonicalize()
            .map_err(|source| RuntimeError::PluginFile { path: path.to_path_buf(), source })?;
        let registry = REGISTRY.get_or_init(Mutex::default);
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plugin) = registry.by_path.get(&path) {
            return Ok(*plugin);
        }
        let _span = tracing::debug_span!("load_plugin", path = %path.display()).entered();
        let (address, table) = library::open(&path)?;
        let plugin = match registry.by_table.get(&address) {
            Some(plugin) => *plugin,
            None => {
                table.initialize()?;
                let plugin = Self { table: Box::leak(Box::new(table)) };
                registry.by_table.insert(address, plugin);
                let (major, minor) = plugin.api_version();
                tracing::info!(path = %path.display(), "loaded PJRT plugin, C API {major}.{minor}");
                plugin
            }
        };
        registry.by_path.insert(path, plugin);
        Ok(plugin)
    }

    /// Major and minor version of the PJRT C API that the plugin was built with.
    pub fn api_version(&self) -> (u32, u32) {
        let version = self.table.api.pjrt_api_version;
        (version.major_version.unsigned_abs(), version.minor_version.unsigned_abs())
    }

    /// The file that the plugin was loaded from.
    pub fn path(&self) -> &Path {
        &self.table.path
    }

    /// What the plugin says about itself, such as `xla_version` and `stablehlo_current_version`. Empty where it says
    /// nothing.
    pub fn attributes(&self) -> BTreeMap<String, OptionValue> {
        self.table.attributes().into_iter().collect()
    }

    /// What the plugin offers beyond the function table, in its own order.
    pub fn extensions(&self) -> Vec<Extension> {
        self.table.extensions().into_iter().map(|(code, _)| Extension(code)).collect()
    }

    /// Whether the file is a CPU plugin, by its name: a plugin says what it is only once it has a client.
    pub(crate) fn is_cpu(&self) -> bool {
        self.path().file_name().is_some_and(|name| name.to_string_lossy().contains("cpu"))
    }

    pub(crate) fn table(&self) -> &'static Table {
        self.table
    }
}

impl PartialEq for Plugin {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.table, other.table)
    }
}

impl Eq for Plugin {}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.api_version();
        f.debug_struct("Plugin")
            .field("path", &self.path())
            .field("api", &format_args!("{major}.{minor}"))
            .finish()
    }
}
