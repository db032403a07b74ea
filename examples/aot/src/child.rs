//! The compiler, in processes of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tpu_rpa::kernels::TpuKind;
use tpu_rpa::runtime::{CompileOptions, Plugin};

/// Where `.ci/tools.sh aot` puts it.
const FETCHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/py-aot/libtpu/libtpu.so");

/// Characters of a compiler's words that are shown, from the end.
const WORDS: usize = 2000;

/// What a child is asked to do.
#[derive(Serialize, Deserialize)]
pub enum Job {
    /// Tell what the topologies are.
    Describe,
    /// Compile a variant into a file.
    Compile { variant: String, topology: String, file: PathBuf },
}

/// A topology, as the compiler tells it.
#[derive(Serialize, Deserialize)]
pub struct Described {
    pub device_kind: String,
    pub compiler: String,
}

/// Time of a compilation.
#[derive(Serialize, Deserialize)]
pub struct Timed {
    pub seconds: f64,
}

/// libtpu.
pub struct Compiler {
    library: PathBuf,
}

impl Compiler {
    pub fn find(explicit: Option<&Path>) -> Result<Self> {
        let library = explicit
            .map(Path::to_path_buf)
            .or_else(|| std::env::var_os("TPU_LIBRARY_PATH").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from(FETCHED));
        if !library.is_file() {
            bail!(
                "no libtpu at {}: `make aot` fetches it; or give --libtpu, or set TPU_LIBRARY_PATH",
                library.display()
            );
        }
        Ok(Compiler { library })
    }

    /// Every [`TpuKind`]'s topology.
    pub fn describe(&self) -> Result<Vec<Described>> {
        self.ask(&Job::Describe, None)
    }

    /// Does a job in a child process; `dump` is a folder for the compiler's listings.
    pub fn ask<T: DeserializeOwned>(&self, job: &Job, dump: Option<&Path>) -> Result<T> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--job").arg(serde_json::to_string(job)?);
        command.env("TPU_LIBRARY_PATH", &self.library);
        // There is no TPU whose metadata could be asked for, and none that two processes could quarrel about.
        command.env("TPU_SKIP_MDS_QUERY", "1").env("ALLOW_MULTIPLE_LIBTPU_LOAD", "1");
        if let Some(folder) = dump {
            let folder = folder.to_str().context("the dump folder's name is not UTF-8")?;
            let flags = std::env::var("LIBTPU_INIT_ARGS").unwrap_or_default();
            command.env("LIBTPU_INIT_ARGS", format!("{flags} {}", super::listing::flags(folder)));
        }
        let output = command.output().context("the child process does not start")?;
        let words = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let words: Vec<char> = words.trim().chars().collect();
            let shown: String = words[words.len().saturating_sub(WORDS)..].iter().collect();
            return Err(anyhow!("the compiler's process ended with {}: {shown}", output.status));
        }
        let answer = output.stdout.split(|&b| b == b'\n').rfind(|line| line.starts_with(ANSWER.as_bytes()));
        let answer = answer.with_context(|| format!("the child gave no answer: {}", words.trim()))?;
        Ok(serde_json::from_slice(&answer[ANSWER.len()..])?)
    }
}

/// What the line of a child's answer starts with: the plugin may print too.
const ANSWER: &str = "answer: ";

/// Does a job, in the child.
pub fn work(job: &str) -> Result<()> {
    let answer = match serde_json::from_str(job)? {
        Job::Describe => serde_json::to_string(&describe()?)?,
        Job::Compile { variant, topology, file } => {
            serde_json::to_string(&compile(&variant, &topology, &file)?)?
        }
    };
    println!("{ANSWER}{answer}");
    Ok(())
}

fn plugin() -> Result<Plugin> {
    Ok(Plugin::load(std::env::var_os("TPU_LIBRARY_PATH").context("TPU_LIBRARY_PATH is not set")?)?)
}

fn describe() -> Result<Vec<Described>> {
    let plugin = plugin()?;
    let describe = |kind: TpuKind| {
        let topology = plugin.topology(kind.topology())?;
        Ok(Described { device_kind: topology.device_kind()?, compiler: topology.platform_version()? })
    };
    TpuKind::ALL.into_iter().map(describe).collect()
}

fn compile(variant: &str, topology: &str, file: &Path) -> Result<Timed> {
    let sources = super::sources(variant)?;
    let source = sources
        .iter()
        .find(|s| s.id == variant && s.kind.topology() == topology)
        .context("no such variant")?;
    let topology = plugin()?.topology(topology)?;
    let start = Instant::now();
    let bytes = topology.compile_aot(&source.function.module(), &CompileOptions::new())?.bytes;
    let seconds = start.elapsed().as_secs_f64();
    std::fs::write(file, bytes).with_context(|| file.display().to_string())?;
    Ok(Timed { seconds })
}
