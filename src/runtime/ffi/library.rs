//! Opening a plugin file.

use std::path::Path;

use pjrt_sys::{PJRT_Api, PJRT_Plugin_Attributes_Args, PJRT_Plugin_Initialize_Args};

use super::abi::{Table, slice};
use super::named_values::named_values;
use crate::runtime::error::RuntimeError;
use crate::runtime::options::OptionValue;

const SYMBOL: &str = "GetPjrtApi";
const MAJOR: i32 = pjrt_sys::PJRT_API_MAJOR as i32;

/// Address of a plugin's own table: equal for two paths to one library.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TableAddress(usize);

/// Opens `path`, asks it for its table, and checks the table. The library stays loaded: the plugin's threads and its
/// objects would not survive unloading.
pub(crate) fn open(path: &Path) -> Result<(TableAddress, Table), RuntimeError> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    let owned = || path.to_path_buf();
    // SAFETY: runs the file's initialisers; `Plugin::load` documents that the file must be trusted.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| RuntimeError::PluginOpen { path: owned(), reason: loader_words(&error) })?;
    // SAFETY: the symbol has this type in every PJRT plugin (pjrt_c_api.h).
    let get = unsafe { library.get::<unsafe extern "C" fn() -> *const PJRT_Api>(SYMBOL.as_bytes()) }
        .map_err(|_| RuntimeError::PluginSymbol { path: owned(), symbol: SYMBOL })?;
    // SAFETY: takes no arguments and returns a pointer to a static table.
    let api = unsafe { get() };
    std::mem::forget(library);
    // SAFETY: `GetPjrtApi` returns null or a table that lives as long as the library, which is never unloaded.
    unsafe { check(path, api) }
}

/// Copies the known part of a table after checking that it is there.
///
/// # Safety
/// `api` is null or points to an immutable table of `struct_size` bytes.
unsafe fn check(path: &Path, api: *const PJRT_Api) -> Result<(TableAddress, Table), RuntimeError> {
    let owned = || path.to_path_buf();
    if api.is_null() {
        return Err(RuntimeError::PluginNullTable { path: owned() });
    }
    // SAFETY: every version of the table starts with its size.
    let size = unsafe { api.cast::<usize>().read() };
    let min = size_of::<PJRT_Api>();
    if size < min {
        return Err(RuntimeError::PluginTableSize { path: owned(), size, min });
    }
    // SAFETY: the table has at least `min` bytes, and only grows at its end.
    let api_copy = unsafe { api.read() };
    let version = api_copy.pjrt_api_version;
    if version.major_version != MAJOR {
        return Err(RuntimeError::PluginVersion {
            path: owned(),
            major: version.major_version,
            minor: version.minor_version,
            supported: MAJOR,
        });
    }
    // Without these neither an error nor the end of a transfer into host memory could be learnt.
    let required = [
        ("PJRT_Error_Destroy", api_copy.PJRT_Error_Destroy.is_some()),
        ("PJRT_Error_Message", api_copy.PJRT_Error_Message.is_some()),
        ("PJRT_Error_GetCode", api_copy.PJRT_Error_GetCode.is_some()),
        ("PJRT_Event_Await", api_copy.PJRT_Event_Await.is_some()),
        ("PJRT_Event_Destroy", api_copy.PJRT_Event_Destroy.is_some()),
    ];
    if let Some((entry, _)) = required.into_iter().find(|(_, present)| !present) {
        return Err(RuntimeError::MissingEntry { entry });
    }
    Ok((TableAddress(api as usize), Table { api: api_copy, path: path.into() }))
}

fn loader_words(error: &libloading::Error) -> String {
    match error {
        libloading::Error::DlOpen { desc } => format!("{desc:?}").trim_matches('"').to_owned(),
        other => other.to_string(),
    }
}

impl Table {
    /// Must be called once per library, before anything else.
    pub(crate) fn initialize(&self) -> Result<(), RuntimeError> {
        // SAFETY: no fields.
        unsafe { self.call::<PJRT_Plugin_Initialize_Args>(|_| {}) }.map(|_| ())
    }

    /// The plugin's own attributes; empty where it has none.
    pub(crate) fn attributes(&self) -> Vec<(String, OptionValue)> {
        // SAFETY: no input fields; the returned array is static.
        unsafe { self.call::<PJRT_Plugin_Attributes_Args>(|_| {}) }
            .map(|args| {
                // SAFETY: the plugin owns `num_attributes` values for as long as it is loaded.
                named_values(unsafe { slice(args.attributes, args.num_attributes) })
            })
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with no entries, as a plugin of the given size and version would return it.
    fn table(size: usize, major: i32) -> PJRT_Api {
        // SAFETY: null entries are `None`.
        let mut api: PJRT_Api = unsafe { std::mem::zeroed() };
        api.struct_size = size;
        api.pjrt_api_version.major_version = major;
        api.pjrt_api_version.minor_version = 7;
        api
    }

    fn refusal(api: *const PJRT_Api) -> RuntimeError {
        // SAFETY: null or a live table.
        unsafe { check(Path::new("fake.so"), api) }.err().expect("refused")
    }

    #[test]
    fn bad_tables_are_refused_with_the_bound() {
        assert!(matches!(refusal(std::ptr::null()), RuntimeError::PluginNullTable { .. }));
        let min = size_of::<PJRT_Api>();
        let error = refusal(&table(min - 8, MAJOR));
        assert!(
            matches!(error, RuntimeError::PluginTableSize { size, min: m, .. } if size == min - 8 && m == min)
        );
        let error = refusal(&table(min, MAJOR + 1));
        assert!(error.to_string().contains("1.7"), "{error}");
    }

    #[test]
    fn an_empty_table_is_refused_with_the_missing_entry() {
        let error = refusal(&table(size_of::<PJRT_Api>() + 64, MAJOR));
        assert!(matches!(error, RuntimeError::MissingEntry { entry: "PJRT_Error_Destroy" }), "{error}");
    }
}
