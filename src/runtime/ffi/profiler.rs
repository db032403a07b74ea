//! The chain of extensions behind a plugin's table, and the profiler that one of them may offer.
//!
//! The layouts are those of OpenXLA's `pjrt_c_api_profiler_extension.h` and `profiler_c_api.h`, version 1, which
//! `pjrt-sys` has no bindings for.

use std::ffi::{c_char, c_int, c_void};
use std::mem::zeroed;
use std::ptr::{NonNull, null, null_mut};

use pjrt_sys::PJRT_Extension_Base;

use super::abi::{Padded, Sized8, Table, slice, text};
use crate::runtime::error::RuntimeError;
use crate::runtime::plugin_error::{ErrorCode, PluginError};

/// `PJRT_Extension_Type_Profiler`
pub(crate) const PROFILER: u32 = 1;

/// Extensions that a chain may have; a longer one is taken for a loop.
const LONGEST_CHAIN: usize = 256;

#[repr(C)]
struct ProfilerExtension {
    base: PJRT_Extension_Base,
    api: *const ProfilerApi,
}

type Entry<A> = Option<unsafe extern "C" fn(*mut A) -> *mut c_void>;

/// `PLUGIN_Profiler_Api`
#[repr(C)]
#[derive(Clone, Copy)]
struct ProfilerApi {
    struct_size: usize,
    private: *mut c_void,
    error_destroy: Option<unsafe extern "C" fn(*mut ErrorArgs)>,
    error_message: Option<unsafe extern "C" fn(*mut ErrorMessageArgs)>,
    error_get_code: Entry<ErrorCodeArgs>,
    create: Entry<CreateArgs>,
    destroy: Entry<SessionArgs>,
    start: Entry<SessionArgs>,
    stop: Entry<SessionArgs>,
    collect_data: Entry<CollectArgs>,
}

#[repr(C)]
struct ErrorArgs {
    struct_size: usize,
    private: *mut c_void,
    error: *mut c_void,
}

#[repr(C)]
struct ErrorMessageArgs {
    struct_size: usize,
    private: *mut c_void,
    error: *const c_void,
    message: *const c_char,
    message_size: usize,
}

#[repr(C)]
struct ErrorCodeArgs {
    struct_size: usize,
    private: *mut c_void,
    error: *const c_void,
    code: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CreateArgs {
    struct_size: usize,
    options: *const c_char,
    options_size: usize,
    profiler: *mut c_void,
}

/// Of destroy, start and stop.
#[repr(C)]
#[derive(Clone, Copy)]
struct SessionArgs {
    struct_size: usize,
    profiler: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CollectArgs {
    struct_size: usize,
    profiler: *mut c_void,
    buffer: *mut u8,
    buffer_size: usize,
}

// SAFETY: plain C data that starts with `size_t struct_size`.
unsafe impl Sized8 for CreateArgs {}
// SAFETY: as above.
unsafe impl Sized8 for SessionArgs {}
// SAFETY: as above.
unsafe impl Sized8 for CollectArgs {}

impl Table {
    /// Type and size of each extension of the plugin, in the chain's order.
    pub(crate) fn extensions(&self) -> Vec<(u32, usize)> {
        self.chain().map(|extension| (extension.type_, extension.struct_size)).collect()
    }

    pub(super) fn chain(&self) -> impl Iterator<Item = &PJRT_Extension_Base> {
        // SAFETY: a link is null or an extension that lives as long as the plugin's table, which is never unloaded.
        let mut next = unsafe { self.api.extension_start.as_ref() };
        let links = std::iter::from_fn(move || {
            let this = next?;
            // SAFETY: as above.
            next = unsafe { this.next.as_ref() };
            Some(this)
        });
        links.take(LONGEST_CHAIN)
    }

    fn profiler_api(&self) -> Option<ProfilerApi> {
        let base = self.chain().find(|extension| extension.type_ == PROFILER)?;
        if base.struct_size < size_of::<ProfilerExtension>() {
            return None;
        }
        // SAFETY: an extension of this type and size has the layout of `ProfilerExtension`; its table is null where
        // the extension only stands for an argument's.
        let api = unsafe { (*std::ptr::from_ref(base).cast::<ProfilerExtension>()).api.as_ref() }?;
        (api.struct_size >= size_of::<ProfilerApi>()).then_some(*api)
    }
}

/// A profiler session of a plugin, from its start.
pub(crate) struct RawProfiler {
    api: ProfilerApi,
    session: NonNull<c_void>,
}

// SAFETY: the session is used by one thread at a time: all calls but the constructor take `self`.
unsafe impl Send for RawProfiler {}

impl RawProfiler {
    /// Starts a session; `options` is a serialized `tensorflow.ProfileOptions`. None where the plugin has no profiler.
    pub(crate) fn start(table: &Table, options: &[u8]) -> Result<Option<Self>, RuntimeError> {
        let Some(api) = table.profiler_api() else { return Ok(None) };
        let mut args = Padded::<CreateArgs>::new();
        args.head.options = options.as_ptr().cast();
        args.head.options_size = options.len();
        // SAFETY: the entry's own struct; the options are read during the call.
        unsafe { api.call("PLUGIN_Profiler_Create", api.create, args.as_mut_ptr()) }?;
        let null = RuntimeError::NullObject { call: "PLUGIN_Profiler_Create", what: "a profiler" };
        let profiler = RawProfiler { api, session: NonNull::new(args.head.profiler).ok_or(null)? };
        profiler.session_call("PLUGIN_Profiler_Start", api.start)?;
        Ok(Some(profiler))
    }

    /// Ends the session and returns the serialized `tensorflow.profiler.XSpace`.
    pub(crate) fn stop(self) -> Result<Vec<u8>, RuntimeError> {
        const COLLECT: &str = "PLUGIN_Profiler_CollectData";
        self.session_call("PLUGIN_Profiler_Stop", self.api.stop)?;
        let mut args = Padded::<CollectArgs>::new();
        args.head.profiler = self.session.as_ptr();
        args.head.buffer = null_mut();
        // SAFETY: the entry's own struct, with a live session.
        unsafe { self.api.call(COLLECT, self.api.collect_data, args.as_mut_ptr()) }?;
        let size = args.head.buffer_size;
        if !args.head.buffer.is_null() {
            // SAFETY: the plugin's own buffer, which lives as long as the session.
            return Ok(unsafe { slice(args.head.buffer.cast_const(), size) }.to_vec());
        }
        // The header's way: the first call tells the size only.
        let mut bytes = vec![0; size];
        if size > 0 {
            args.head.buffer = bytes.as_mut_ptr();
            // SAFETY: as above; the buffer has the size that was asked for.
            unsafe { self.api.call(COLLECT, self.api.collect_data, args.as_mut_ptr()) }?;
        }
        Ok(bytes)
    }

    fn session_call(&self, name: &'static str, entry: Entry<SessionArgs>) -> Result<(), RuntimeError> {
        let mut args = Padded::<SessionArgs>::new();
        args.head.profiler = self.session.as_ptr();
        // SAFETY: the entry's own struct, with a live session.
        unsafe { self.api.call(name, entry, args.as_mut_ptr()) }
    }
}

impl Drop for RawProfiler {
    fn drop(&mut self) {
        if let Err(error) = self.session_call("PLUGIN_Profiler_Destroy", self.api.destroy) {
            tracing::debug!(%error, "destroying a profiler session failed");
        }
    }
}

impl ProfilerApi {
    /// # Safety
    /// `args` is `entry`'s struct, and its pointers are what the entry demands.
    unsafe fn call<A>(&self, name: &'static str, entry: Entry<A>, args: *mut A) -> Result<(), RuntimeError> {
        let entry = entry.ok_or(RuntimeError::MissingEntry { entry: name })?;
        // SAFETY: the caller's promise.
        let error = unsafe { entry(args) };
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: an error of this profiler that nobody else frees. The structs of these entries are checked for their
        // exact size, so they are not padded.
        unsafe {
            let mut message = String::new();
            if let Some(entry) = self.error_message {
                let mut args = ErrorMessageArgs {
                    struct_size: size_of::<ErrorMessageArgs>(),
                    private: null_mut(),
                    error,
                    message: null(),
                    message_size: 0,
                };
                entry(&raw mut args);
                message = text(args.message, args.message_size);
            }
            let mut code = ErrorCode::Unknown;
            if let Some(entry) = self.error_get_code {
                let mut args: ErrorCodeArgs = zeroed();
                args.struct_size = std::mem::offset_of!(ErrorCodeArgs, code) + size_of::<c_int>();
                args.error = error;
                if entry(&raw mut args).is_null() {
                    code = ErrorCode::from_raw(args.code.unsigned_abs());
                }
            }
            if let Some(entry) = self.error_destroy {
                let struct_size = size_of::<ErrorArgs>();
                let mut args = ErrorArgs { struct_size, private: null_mut(), error };
                entry(&raw mut args);
            }
            Err(PluginError::new(name, code, message).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What a session of the made-up plugin holds.
    struct Session {
        started: bool,
        data: Vec<u8>,
    }

    unsafe extern "C" fn create(args: *mut CreateArgs) -> *mut c_void {
        // SAFETY: called with its own struct.
        unsafe {
            let args = &mut *args;
            let data = slice(args.options.cast::<u8>(), args.options_size).to_vec();
            args.profiler = Box::into_raw(Box::new(Session { started: false, data })).cast();
        }
        null_mut()
    }

    unsafe extern "C" fn start(args: *mut SessionArgs) -> *mut c_void {
        // SAFETY: a live session.
        unsafe { (*(*args).profiler.cast::<Session>()).started = true };
        null_mut()
    }

    unsafe extern "C" fn stop(args: *mut SessionArgs) -> *mut c_void {
        // SAFETY: a live session.
        assert!(unsafe { (*(*args).profiler.cast::<Session>()).started });
        null_mut()
    }

    unsafe extern "C" fn destroy(args: *mut SessionArgs) -> *mut c_void {
        // SAFETY: made by `create`, destroyed once.
        drop(unsafe { Box::from_raw((*args).profiler.cast::<Session>()) });
        null_mut()
    }

    /// Lends its own buffer, as XLA does.
    unsafe extern "C" fn lend(args: *mut CollectArgs) -> *mut c_void {
        // SAFETY: a live session.
        unsafe {
            let session = &mut *(*args).profiler.cast::<Session>();
            ((*args).buffer, (*args).buffer_size) = (session.data.as_mut_ptr(), session.data.len());
        }
        null_mut()
    }

    /// Tells the size, then fills the caller's buffer, as the header says.
    unsafe extern "C" fn fill(args: *mut CollectArgs) -> *mut c_void {
        // SAFETY: a live session, and a buffer of the size told before.
        unsafe {
            let (args, data) = (&mut *args, &(*(*args).profiler.cast::<Session>()).data);
            args.buffer_size = data.len();
            if !args.buffer.is_null() {
                args.buffer.copy_from_nonoverlapping(data.as_ptr(), data.len());
            }
        }
        null_mut()
    }

    fn table(extension: *mut PJRT_Extension_Base) -> Table {
        // SAFETY: null entries are `None`.
        let mut api: pjrt_sys::PJRT_Api = unsafe { zeroed() };
        api.extension_start = extension;
        Table { api, path: Path::new("made-up").into() }
    }

    fn base(type_: u32, struct_size: usize, next: *mut PJRT_Extension_Base) -> PJRT_Extension_Base {
        PJRT_Extension_Base { struct_size, type_, next }
    }

    #[test]
    fn a_session_returns_what_the_plugin_collected() {
        for collect in [lend, fill] {
            let api = ProfilerApi {
                struct_size: size_of::<ProfilerApi>(),
                private: null_mut(),
                error_destroy: None,
                error_message: None,
                error_get_code: None,
                create: Some(create),
                destroy: Some(destroy),
                start: Some(start),
                stop: Some(stop),
                collect_data: Some(collect),
            };
            let size = size_of::<ProfilerExtension>();
            let mut profiler =
                ProfilerExtension { base: base(PROFILER, size, null_mut()), api: &raw const api };
            let mut first = base(5, 48, (&raw mut profiler).cast());
            let table = table(&raw mut first);
            assert_eq!(table.extensions(), [(5, 48), (PROFILER, size)]);
            for options in [&b"options"[..], b""] {
                let session = RawProfiler::start(&table, options).expect("no error").expect("a profiler");
                assert_eq!(session.stop().expect("data"), options);
            }
        }
    }

    #[test]
    fn an_extension_without_a_table_is_none() {
        for size in [size_of::<ProfilerExtension>(), size_of::<PJRT_Extension_Base>()] {
            let mut profiler = ProfilerExtension { base: base(PROFILER, size, null_mut()), api: null() };
            let table = table((&raw mut profiler).cast());
            assert!(RawProfiler::start(&table, b"").expect("no error").is_none());
        }
    }

    #[test]
    fn a_loop_of_extensions_ends() {
        let mut looped = base(5, 48, null_mut());
        looped.next = &raw mut looped;
        assert_eq!(table(&raw mut looped).extensions().len(), LONGEST_CHAIN);
        assert!(RawProfiler::start(&table(null_mut()), b"").expect("no error").is_none());
    }
}
