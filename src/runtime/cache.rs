use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::compile_options::CompileOptions;
use super::error::RuntimeError;
use super::executable::Executable;
use super::precompiled::Precompiled;

/// What became of a client's compile requests so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Served from memory, including those that waited for another thread's compilation.
    pub memory_hits: u64,
    /// Served from executables that were compiled ahead of time.
    pub precompiled_hits: u64,
    /// Executables compiled ahead of time for a requested kernel and this kind of device, but of another compiler or
    /// source, or that the plugin did not load. Each sends the request on, never fails it.
    pub precompiled_refusals: u64,
    /// Served from the disk cache.
    pub disk_hits: u64,
    /// Compiled, successfully or not.
    pub compiles: u64,
    /// Entries written to the disk cache.
    pub disk_writes: u64,
    /// Entries that could not be read, used or written. Each is a miss, never a failure.
    pub disk_errors: u64,
}

#[derive(Default)]
struct Counters {
    memory_hits: AtomicU64,
    precompiled_hits: AtomicU64,
    precompiled_refusals: AtomicU64,
    disk_hits: AtomicU64,
    compiles: AtomicU64,
    disk_writes: AtomicU64,
    disk_errors: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Hash of all that decides what an executable is.
type Key = [u8; 32];

/// The executable of one key; locked while it is compiled, so that others wait for it. A failure leaves it empty.
type Slot = Mutex<Option<Arc<Executable>>>;

/// A client's executables, in memory and on disk.
pub(crate) struct Cache {
    /// Hash of what a client's keys have in common: plugin, platform, devices, compiler flags.
    context: Key,
    memory: Option<Mutex<HashMap<Key, Arc<Slot>>>>,
    disk: Option<PathBuf>,
    counters: Counters,
}

impl Cache {
    pub(crate) fn new(context: &[&[u8]], memory: bool, disk: Option<PathBuf>) -> Self {
        Self {
            context: hash(context),
            memory: memory.then(Mutex::default),
            disk,
            counters: Counters::default(),
        }
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            memory_hits: read(&self.counters.memory_hits),
            precompiled_hits: read(&self.counters.precompiled_hits),
            precompiled_refusals: read(&self.counters.precompiled_refusals),
            disk_hits: read(&self.counters.disk_hits),
            compiles: read(&self.counters.compiles),
            disk_writes: read(&self.counters.disk_writes),
            disk_errors: read(&self.counters.disk_errors),
        }
    }

    /// Forgets the executables in memory; those in use stay usable.
    pub(crate) fn clear(&self) {
        if let Some(memory) = &self.memory {
            memory.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// The executable for a program: from memory, else by `load` from one of the `ahead` that fit `compiler` and
    /// program or from the disk's bytes, else by `compile`.
    pub(crate) fn get(
        &self,
        mlir: &str,
        options: &CompileOptions,
        ahead: &Ahead<'_>,
        load: impl Fn(&[u8]) -> Result<Executable, RuntimeError>,
        compile: impl FnOnce() -> Result<Executable, RuntimeError>,
    ) -> Result<Arc<Executable>, RuntimeError> {
        let options = format!("{options:?}");
        let key = hash(&[&self.context, options.as_bytes(), mlir.as_bytes()]);
        let Some(memory) = &self.memory else {
            return self.get_outside_memory(&key, mlir, ahead, load, compile).map(Arc::new);
        };
        let slot = Arc::clone(memory.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(executable) = &*slot {
            count(&self.counters.memory_hits);
            tracing::debug!(cache = "memory hit", "compile");
            return Ok(Arc::clone(executable));
        }
        let executable = Arc::new(self.get_outside_memory(&key, mlir, ahead, load, compile)?);
        *slot = Some(Arc::clone(&executable));
        Ok(executable)
    }

    fn get_outside_memory(
        &self,
        key: &Key,
        mlir: &str,
        ahead: &Ahead<'_>,
        load: impl Fn(&[u8]) -> Result<Executable, RuntimeError>,
        compile: impl FnOnce() -> Result<Executable, RuntimeError>,
    ) -> Result<Executable, RuntimeError> {
        let start = Instant::now();
        for candidate in &ahead.executables {
            let refusal = match candidate.mismatch(mlir, ahead.compiler) {
                Some(reason) => reason,
                None => match load(&candidate.bytes) {
                    Ok(executable) => {
                        count(&self.counters.precompiled_hits);
                        let kernel = &*candidate.kernel;
                        tracing::info!(cache = "precompiled hit", kernel, elapsed = ?start.elapsed(), "compile");
                        return Ok(executable);
                    }
                    Err(error) => error.to_string(),
                },
            };
            count(&self.counters.precompiled_refusals);
            let (kernel, topology) = (&*candidate.kernel, &*candidate.topology);
            tracing::warn!(kernel, topology, refusal, "a precompiled executable is not used");
        }
        let path = self.disk.as_ref().map(|directory| directory.join(format!("{}.pjrt", hex(key))));
        if let Some(path) = &path {
            match read_entry(path, key).map(|bytes| bytes.map(|bytes| load(&bytes))) {
                Ok(Some(Ok(executable))) => {
                    count(&self.counters.disk_hits);
                    tracing::info!(cache = "disk hit", elapsed = ?start.elapsed(), "compile");
                    return Ok(executable);
                }
                Ok(Some(Err(error))) => self.disk_failed("the plugin refused", path, &error),
                Ok(None) => {}
                Err(error) => self.disk_failed("could not read", path, &error),
            }
        }
        count(&self.counters.compiles);
        let executable = compile()?;
        tracing::info!(cache = "miss", elapsed = ?start.elapsed(), "compile");
        if let Some(path) = &path {
            match executable.serialize() {
                Err(error) => self.disk_failed("could not serialize", path, &error),
                Ok(bytes) => match write_entry(path, key, &bytes) {
                    Ok(()) => count(&self.counters.disk_writes),
                    Err(error) => self.disk_failed("could not write", path, &error),
                },
            }
        }
        Ok(executable)
    }

    fn disk_failed(&self, what: &str, path: &Path, error: &dyn std::error::Error) {
        count(&self.counters.disk_errors);
        tracing::warn!(path = %path.display(), %error, "executable cache: {what} an entry");
    }
}

/// Executables compiled ahead of time for one kernel and the client's kind of device.
#[derive(Default)]
pub(crate) struct Ahead<'a> {
    pub(crate) executables: Vec<&'a Precompiled>,
    /// The client's compiler.
    pub(crate) compiler: &'a str,
}

/// Hash of a list of byte strings; their lengths are part of it.
fn hash(parts: &[&[u8]]) -> Key {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn hex(key: &Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// First bytes of an entry; the number is the version of this layout: magic, key, hash of the payload, payload.
const MAGIC: &[u8] = b"tpu-rpa executable 1\n";

/// The payload of an entry, or `None` if there is no entry.
fn read_entry(path: &Path, key: &Key) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let header = MAGIC.len() + 2 * size_of::<Key>();
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let rest =
        bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("entry does not start with the magic line"))?;
    let (found, rest) =
        rest.split_at_checked(size_of::<Key>()).ok_or_else(|| damaged("entry is cut short"))?;
    let (sum, payload) =
        rest.split_at_checked(size_of::<Key>()).ok_or_else(|| damaged("entry is cut short"))?;
    if found != key {
        return Err(damaged("entry is of another key than its name says"));
    }
    if sum != hash(&[payload]) {
        return Err(damaged("entry does not have its checksum"));
    }
    bytes.drain(..header);
    Ok(Some(bytes))
}

/// Writes an entry that others see whole or not at all.
fn write_entry(path: &Path, key: &Key, payload: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let unique = NEXT.fetch_add(1, Ordering::Relaxed);
    let partial = path.with_extension(format!("{}-{unique}.partial", std::process::id()));
    let entry = [MAGIC, key, &hash(&[payload]), payload].concat();
    let written = fs::write(&partial, entry).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // Only the first error is of interest; the file may not even be there.
        let _ = fs::remove_file(&partial);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::plugin_error::{ErrorCode, PluginError};

    fn failure<T>() -> Result<T, RuntimeError> {
        Err(PluginError::new("test", ErrorCode::Internal, String::new()).into())
    }

    #[test]
    fn an_entry_that_the_plugin_refuses_is_a_miss() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(&[b"context"], true, Some(directory.path().to_path_buf()));
        let options = CompileOptions::new();
        let key = hash(&[&cache.context, format!("{options:?}").as_bytes(), b"text"]);
        write_entry(&directory.path().join(format!("{}.pjrt", hex(&key))), &key, b"payload").unwrap();
        let load = |bytes: &[u8]| {
            assert_eq!(bytes, b"payload");
            failure()
        };
        for attempts in 1..3 {
            assert!(cache.get("text", &options, &Ahead::default(), load, failure).is_err());
            let stats = cache.stats();
            assert_eq!((stats.compiles, stats.disk_errors, stats.memory_hits), (attempts, attempts, 0));
        }
    }

    #[test]
    fn keys_do_not_run_into_each_other() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_ne!(hash(&[b"", b"x"]), hash(&[b"x", b""]));
    }

    #[test]
    fn an_entry_under_another_name_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("entry");
        assert!(read_entry(&path, &[1; 32]).unwrap().is_none());
        write_entry(&path, &[1; 32], b"payload").unwrap();
        assert_eq!(read_entry(&path, &[1; 32]).unwrap().unwrap(), b"payload");
        assert!(read_entry(&path, &[2; 32]).is_err());
    }
}
