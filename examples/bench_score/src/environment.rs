use std::fs::File;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::args::BenchArgs;
use crate::target::Target;

/// What the figures depend on besides the workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// Device kind, or the server's address.
    pub(crate) device: String,
    pub(crate) platform_version: String,
    pub(crate) model: String,
    /// Of the model file.
    pub(crate) model_sha256: Option<String>,
    pub(crate) dtype: String,
    /// Of the checkout that the program was started in; `-dirty` with changes.
    pub(crate) commit: String,
    pub(crate) version: String,
    pub(crate) seed: u64,
    pub(crate) token_budget: Option<usize>,
    pub(crate) host: String,
    /// Seconds since 1970.
    pub(crate) started: u64,
}

pub(crate) fn describe(args: &BenchArgs, target: &Target) -> Result<Environment> {
    let about = target.about();
    let text = |name: &str| about[name].as_str().unwrap_or("unknown").to_owned();
    let here = args.url.is_none();
    let setup = args.model.setup();
    let model_sha256 = if here {
        let path = &setup.model;
        let mut hasher = Sha256::new();
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        std::io::copy(&mut file, &mut hasher).with_context(|| path.display().to_string())?;
        Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    } else {
        None
    };
    Ok(Environment {
        device: if here { text("device") } else { text("url") },
        platform_version: text("platform_version"),
        model: if here { setup.model_name() } else { text("model") },
        model_sha256,
        dtype: if here { setup.dtype.to_string() } else { "unknown".into() },
        commit: commit(),
        version: env!("CARGO_PKG_VERSION").into(),
        seed: args.seed,
        token_budget: here.then_some(args.model.token_budget),
        host: host(),
        started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    })
}

fn commit() -> String {
    let git =
        Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]).output();
    match git {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".into(),
    }
}

/// Processor and cores.
fn host() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {cores} cores, {}", name.map_or("unknown processor", |(_, name)| name), std::env::consts::OS)
}
