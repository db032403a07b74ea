//! libtpu, the TPU compiler, where it can be had.

use std::path::PathBuf;

use tpu_rpa::runtime::Plugin;

/// `TPU_LIBRARY_PATH`'s library, or the one that `.ci/tools.sh aot` fetches. Tests that need it are skipped loudly where
/// there is none.
pub fn path() -> Option<PathBuf> {
    let fetched = crate::root().join(".tools/py-aot/libtpu/libtpu.so");
    let path = std::env::var_os("TPU_LIBRARY_PATH").map_or(fetched, PathBuf::from);
    if !path.is_file() {
        eprintln!("SKIPPED: no libtpu at {} (`.ci/tools.sh aot` fetches it)", path.display());
        return None;
    }
    Some(path)
}

/// That library, loaded; skipped too where `TPU_SKIP_MDS_QUERY` is not set: it would ask a metadata server for minutes.
pub fn libtpu() -> Option<Plugin> {
    let path = path()?;
    if std::env::var_os("TPU_SKIP_MDS_QUERY").is_none() {
        eprintln!("SKIPPED: TPU_SKIP_MDS_QUERY is not set (`make test` sets it)");
        return None;
    }
    Some(Plugin::load(path).expect("libtpu loads"))
}
