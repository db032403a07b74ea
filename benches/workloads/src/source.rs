//! Where documents come from: names of files in the repository, or paths.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use crate::{Problem, Workload, WorkloadError};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// Names that stand for files in the repository.
        pub const NAMES: &[&str] = &[$($name),*];
        const TEXTS: &[&str] = &[$(include_str!(concat!("../files/", $name, ".json"))),*];
    };
}

files!["W1", "W1c", "W2", "W2g", "W3", "W4", "W5", "L1", "cached-100", "cached-100-9x64"];

/// What names the workloads of benches.
pub const VARIABLE: &str = "TPU_RPA_WORKLOAD";

/// Longest document that is read.
const MAX_BYTES: u64 = 16 << 20;

/// A workload and what it is called.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name in the repository, or the file's without its extension.
    pub name: String,
    /// What its document describes.
    pub workload: Workload,
}

impl Source {
    /// The file that a name stands for, whatever its case; else the file at that path.
    ///
    /// # Errors
    /// Names the file, the field, the value and the bound.
    pub fn open(what: &str) -> Result<Self, WorkloadError> {
        let known = NAMES.iter().zip(TEXTS).find(|(name, _)| name.eq_ignore_ascii_case(what));
        let source = match known {
            Some((name, text)) => Workload::parse(text).map(|w| ((*name).to_owned(), w)),
            None => read(Path::new(what)).and_then(|text| Ok((stem(what), Workload::parse(&text)?))),
        };
        match source {
            Ok((name, workload)) => Ok(Source { name, workload }),
            Err(problem) => Err(WorkloadError { file: what.to_owned(), problem }),
        }
    }

    /// Those that `TPU_RPA_WORKLOAD` lists, with commas between them; without it, those of the default names.
    ///
    /// # Errors
    /// As for [`Source::open`].
    pub fn from_env(default: &[&str]) -> Result<Vec<Self>, WorkloadError> {
        match std::env::var(VARIABLE) {
            Ok(list) => list.split(',').map(Source::open).collect(),
            Err(_) => default.iter().map(|name| Source::open(name)).collect(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A path's last part without its extension, without what would break a line.
fn stem(path: &str) -> String {
    let stem = Path::new(path).file_stem().map_or(path.into(), |stem| stem.to_string_lossy());
    stem.chars().map(|c| if c.is_control() { '_' } else { c }).collect()
}

fn read(path: &Path) -> Result<String, Problem> {
    let unreadable = |e: std::io::Error| Problem::Unreadable { reason: e.to_string() };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Problem::Unreadable { reason: format!("more than {MAX_BYTES} bytes") });
    }
    Ok(text)
}
