use std::path::{Path, PathBuf};

use super::error::RuntimeError;
#[cfg(feature = "emulator")]
use super::interpreted::InterpretedTpu;
use super::precompiled::Precompiled;

/// Value of a named plugin option or attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptionValue {
    /// Text.
    String(String),
    /// An integer.
    Int64(i64),
    /// Integers.
    Int64List(Vec<i64>),
    /// A real number.
    Float(f32),
    /// A flag.
    Bool(bool),
}

impl From<&str> for OptionValue {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for OptionValue {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<i64> for OptionValue {
    fn from(value: i64) -> Self {
        Self::Int64(value)
    }
}

impl From<Vec<i64>> for OptionValue {
    fn from(value: Vec<i64>) -> Self {
        Self::Int64List(value)
    }
}

impl From<f32> for OptionValue {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<bool> for OptionValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// How a [`Client`](super::Client) is made: options for the plugin, and the executable cache.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    pub(crate) named: Vec<(String, OptionValue)>,
    pub(crate) device_count: Option<u32>,
    pub(crate) memory_cache: bool,
    pub(crate) disk_cache: Option<PathBuf>,
    pub(crate) precompiled: Vec<Precompiled>,
    #[cfg(feature = "emulator")]
    pub(crate) interpreted: Option<InterpretedTpu>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            named: Vec::new(),
            device_count: None,
            memory_cache: true,
            disk_cache: None,
            precompiled: Precompiled::embedded().to_vec(),
            #[cfg(feature = "emulator")]
            interpreted: None,
        }
    }
}

impl ClientOptions {
    /// The plugin's defaults, with the in-memory executable cache and no disk cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Passes one option to the plugin. Newer plugins refuse names that they do not know.
    pub fn option(mut self, name: impl Into<String>, value: impl Into<OptionValue>) -> Self {
        self.named.push((name.into(), value.into()));
        self
    }

    /// Most devices that a CPU plugin is asked for: each costs threads, and some plugins take minutes for a few thousand.
    pub const MAX_DEVICES: u32 = 1024;

    /// How many devices a CPU plugin makes (its own default is 4 on some plugins), from 1 to
    /// [`MAX_DEVICES`](Self::MAX_DEVICES); [`Client::new`](super::Client::new) refuses others. Other plugins have the devices
    /// they have and are not told.
    pub fn device_count(mut self, devices: u32) -> Self {
        self.device_count = Some(devices);
        self
    }

    /// The options that a plugin is passed. CPU plugins abort at a number of devices below 0, and narrow one that is no `i32`.
    pub(crate) fn checked(&self, cpu: bool) -> Result<Vec<(String, OptionValue)>, RuntimeError> {
        const NAME: &str = "cpu_device_count";
        let check = |field, value: i64| {
            let most = Self::MAX_DEVICES;
            if (1..=most.into()).contains(&value) {
                return Ok(());
            }
            Err(RuntimeError::ClientOption { field, value, most })
        };
        let mut named = self.named.clone();
        for (name, value) in &named {
            if let (NAME, OptionValue::Int64(value)) = (name.as_str(), value) {
                check(NAME, *value)?;
            }
        }
        if let Some(devices) = self.device_count {
            check("device_count", devices.into())?;
            if cpu {
                named.push((NAME.to_owned(), i64::from(devices).into()));
            }
        }
        Ok(named)
    }

    /// Whether executables are kept in memory and shared between equal compile requests. On by default.
    pub fn memory_cache(mut self, on: bool) -> Self {
        self.memory_cache = on;
        self
    }

    /// Keeps compiled executables in `directory` across processes. The directory is made when first written to.
    ///
    /// An entry is machine code that this process will run: the directory must be writable only by those whom the
    /// process trusts.
    pub fn disk_cache(mut self, directory: impl AsRef<Path>) -> Self {
        self.disk_cache = Some(directory.as_ref().to_path_buf());
        self
    }

    /// Has the plugin, which must be a CPU's, stand for a TPU whose Mosaic kernels the emulator executes: to run and check what
    /// a TPU's user runs, where there is none.
    #[cfg(feature = "emulator")]
    pub fn interpreted_tpu(mut self, tpu: InterpretedTpu) -> Self {
        self.interpreted = Some(tpu);
        self
    }

    /// Executables that [`Client::kernel`](super::Client::kernel) may take instead of compiling, in place of
    /// [`Precompiled::embedded`].
    ///
    /// They are machine code that this process will run, like those of the disk cache.
    pub fn precompiled(mut self, executables: Vec<Precompiled>) -> Self {
        self.precompiled = executables;
        self
    }
}
