//! `manifest.toml` of a folder of executables; build.rs reads it too.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

const FILE: &str = "manifest.toml";

/// One executable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compiled {
    pub variant: String,
    pub kernel: String,
    pub topology: String,
    pub device_kind: String,
    pub compiler: String,
    pub source: String,
    pub file: String,
    pub bytes: u64,
    pub seconds: f64,
    pub slots: u64,
    pub spill_stores: u64,
    pub spill_loads: u64,
    pub vmem: u64,
}

#[derive(Default, Serialize, Deserialize)]
pub struct Manifest {
    #[serde(default)]
    executable: Vec<Compiled>,
}

impl Manifest {
    /// The folder's manifest; empty where it has none.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        std::fs::write(&path, toml::to_string(self)?).with_context(|| path.display().to_string())
    }

    pub fn find(&self, variant: &str, topology: &str) -> Option<&Compiled> {
        self.executable.iter().find(|c| c.variant == variant && c.topology == topology)
    }

    pub fn put(&mut self, compiled: Compiled) {
        self.executable.retain(|c| c.variant != compiled.variant || c.topology != compiled.topology);
        self.executable.push(compiled);
    }

    /// Forgets variants that are no longer declared.
    pub fn keep_declared(&mut self, declared: &[super::Source]) {
        self.executable.retain(|c| declared.iter().any(|s| s.id == c.variant));
    }
}
