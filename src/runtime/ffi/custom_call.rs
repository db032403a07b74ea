//! Custom calls of CPU programs that this process answers, by the FFI extension of a plugin.
//!
//! The layouts are those of OpenXLA's `pjrt_c_api_ffi_extension.h` and `xla/ffi/api/c_api.h`, API version 0.1 and later, which
//! `pjrt-sys` has no bindings for.

use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pjrt_sys::{PJRT_Error, PJRT_Extension_Base};

use super::abi::{Table, slice};
use crate::emulator::Lent;
use crate::runtime::error::RuntimeError;

/// `PJRT_Extension_Type_FFI`
const FFI: u32 = 5;

/// The platform of CPU plugins, as their registry names it.
const PLATFORM: &str = "Host";

#[repr(C)]
struct FfiExtension {
    base: PJRT_Extension_Base,
    type_register: *const c_void,
    user_data_add: *const c_void,
    register_handler: Option<unsafe extern "C" fn(*mut RegisterArgs) -> *mut PJRT_Error>,
}

#[repr(C)]
struct RegisterArgs {
    struct_size: usize,
    target: *const c_char,
    target_size: usize,
    handler: *const c_void,
    platform: *const c_char,
    platform_size: usize,
    traits: u32,
}

/// Bytes of [`RegisterArgs`] up to its last field, by which a plugin tells versions apart.
const REGISTER_SIZE: usize = std::mem::offset_of!(RegisterArgs, traits) + size_of::<u32>();

#[repr(C)]
struct Extension {
    struct_size: usize,
    kind: c_int,
    next: *mut Extension,
}

/// `XLA_FFI_Extension_Metadata`
const METADATA: c_int = 1;

#[repr(C)]
struct MetadataExtension {
    base: Extension,
    metadata: *mut Metadata,
}

#[repr(C)]
struct Metadata {
    struct_size: usize,
    api_version: ApiVersion,
    traits: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ApiVersion {
    struct_size: usize,
    extension: *mut Extension,
    major: c_int,
    minor: c_int,
}

#[repr(C)]
struct Api {
    struct_size: usize,
    extension: *mut Extension,
    api_version: ApiVersion,
    internal: *const c_void,
    error_create: Option<unsafe extern "C" fn(*mut ErrorArgs) -> *mut c_void>,
}

#[repr(C)]
struct ErrorArgs {
    struct_size: usize,
    extension: *mut Extension,
    message: *const c_char,
    code: c_int,
}

/// `XLA_FFI_Error_Code_INTERNAL`
const INTERNAL: c_int = 13;

/// `XLA_FFI_ExecutionStage_EXECUTE`
const EXECUTE: c_int = 3;

/// Arguments and results alike.
#[repr(C)]
struct Buffers {
    struct_size: usize,
    extension: *mut Extension,
    size: i64,
    types: *const c_int,
    buffers: *const *const Buffer,
}

#[repr(C)]
struct Buffer {
    struct_size: usize,
    extension: *mut Extension,
    dtype: c_int,
    data: *mut u8,
    rank: i64,
    dims: *const i64,
}

#[repr(C)]
struct Attributes {
    struct_size: usize,
    extension: *mut Extension,
    size: i64,
    types: *const c_int,
    names: *const *const Bytes,
    values: *const *const c_void,
}

/// `XLA_FFI_AttrType_STRING`
const STRING: c_int = 4;

#[repr(C)]
struct Bytes {
    data: *const u8,
    len: usize,
}

#[repr(C)]
struct Frame {
    struct_size: usize,
    extension: *mut Extension,
    api: *const Api,
    context: *mut c_void,
    stage: c_int,
    arguments: Buffers,
    results: Buffers,
    attributes: Attributes,
}

/// One execution of a custom call.
pub(crate) struct Call<'a> {
    frame: &'a Frame,
    lasts: Arc<AtomicBool>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.lasts.store(false, Ordering::Release);
    }
}

/// Elements of an argument. Empty when the call is over.
pub(crate) struct Lending<T> {
    data: *mut T,
    len: usize,
    writable: bool,
    lasts: Arc<AtomicBool>,
}

// SAFETY: a slice of plain data; it is written by its owner alone.
unsafe impl<T: Send> Send for Lending<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Lending<T> {}

impl<T> Lending<T> {
    fn len(&self) -> usize {
        if self.lasts.load(Ordering::Acquire) { self.len } else { 0 }
    }
}

impl<T: bytemuck::Pod + Send + Sync> Lent<T> for Lending<T> {
    fn elements(&self) -> &[T] {
        // SAFETY: while the call lasts the argument holds so many elements, which nobody writes but who has this.
        unsafe { slice(self.data, self.len()) }
    }

    fn elements_mut(&mut self) -> Option<&mut [T]> {
        if !self.writable || self.len() == 0 {
            return None;
        }
        // SAFETY: as above; the memory is a result's too, which this call is to write.
        Some(unsafe { std::slice::from_raw_parts_mut(self.data, self.len) })
    }
}

/// Element type, by XLA's numbers, and dimensions of an argument or a result.
pub(crate) struct Shape<'a> {
    pub dtype: i32,
    pub dims: &'a [i64],
}

impl<'a> Call<'a> {
    fn buffers(&self, of: &'a Buffers) -> &'a [*const Buffer] {
        // SAFETY: a frame's lists are as long as they say, for as long as the call lasts.
        unsafe { slice(of.buffers, usize::try_from(of.size).unwrap_or(0)) }
    }

    fn shapes(&self, of: &'a Buffers) -> Vec<Shape<'a>> {
        let shape = |&buffer: &*const Buffer| {
            // SAFETY: an entry is a live buffer for as long as the call lasts, with `rank` dimensions.
            let buffer = unsafe { &*buffer };
            // SAFETY: as above.
            let dims = unsafe { slice(buffer.dims, usize::try_from(buffer.rank).unwrap_or(0)) };
            Shape { dtype: buffer.dtype, dims }
        };
        self.buffers(of).iter().map(shape).collect()
    }

    /// What it is called with.
    pub(crate) fn arguments(&self) -> Vec<Shape<'a>> {
        self.shapes(&self.frame.arguments)
    }

    /// What it is to give.
    pub(crate) fn results(&self) -> Vec<Shape<'a>> {
        self.shapes(&self.frame.results)
    }

    /// An argument's elements, which `T` has the width of, for as long as the call lasts; `writable` where a result has the same
    /// memory.
    pub(crate) fn lend<T: bytemuck::Pod>(&self, index: usize, writable: bool) -> Lending<T> {
        let at = self.buffers(&self.frame.arguments)[index];
        // SAFETY: a live buffer.
        let buffer = unsafe { &*at };
        let (data, len) = (buffer.data.cast::<T>(), elements(buffer));
        assert!(data.is_aligned(), "elements of argument {index} are aligned");
        Lending { data, len, writable, lasts: Arc::clone(&self.lasts) }
    }

    /// Whether an argument and a result are the same memory.
    pub(crate) fn is_shared(&self, argument: usize, result: usize) -> bool {
        let data = |of: &'a Buffers, index: usize| {
            // SAFETY: a live buffer.
            self.buffers(of).get(index).map(|&buffer| unsafe { (*buffer).data })
        };
        data(&self.frame.arguments, argument).is_some_and(|at| data(&self.frame.results, result) == Some(at))
    }

    /// Fills a result. Its elements have the width of `T`, and are as many.
    pub(crate) fn give<T: bytemuck::Pod>(&self, index: usize, values: &[T]) {
        let buffer = self.buffers(&self.frame.results)[index];
        // SAFETY: a live buffer.
        let buffer = unsafe { &*buffer };
        assert_eq!(elements(buffer), values.len(), "elements of result {index}");
        // SAFETY: the result is this call's to write, and has room for as many elements of this width.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr().cast(), buffer.data, size_of_val(values)) };
    }

    /// An attribute of text.
    pub(crate) fn text(&self, name: &str) -> Option<&'a [u8]> {
        let attributes = &self.frame.attributes;
        let len = usize::try_from(attributes.size).unwrap_or(0);
        // SAFETY: a frame's lists are as long as they say, for as long as the call lasts.
        let (types, names, values) = unsafe {
            (slice(attributes.types, len), slice(attributes.names, len), slice(attributes.values, len))
        };
        let bytes = |at: *const Bytes| {
            // SAFETY: a name, or the value of a text, is a live span for as long as the call lasts.
            unsafe { slice((*at).data, (*at).len) }
        };
        let at = names.iter().position(|&at| bytes(at) == name.as_bytes())?;
        (types[at] == STRING).then(|| bytes(values[at].cast()))
    }
}

fn elements(buffer: &Buffer) -> usize {
    // SAFETY: a live buffer has `rank` dimensions.
    let dims = unsafe { slice(buffer.dims, usize::try_from(buffer.rank).unwrap_or(0)) };
    dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).product()
}

/// What answers a custom call; its error fails the execution.
pub(crate) type Answer = fn(&Call<'_>) -> Result<(), String>;

/// A custom call's target: its name, and what answers it.
pub(crate) trait Target {
    const NAME: &'static str;
    const ANSWER: Answer;
}

impl Table {
    /// Has the custom calls of a target answered in programs of this plugin. To be called once a plugin and target.
    pub(crate) fn answer_calls<T: Target>(&self) -> Result<(), RuntimeError> {
        const CALL: &str = "PJRT_FFI_Register_Handler";
        let missing = || RuntimeError::MissingEntry { entry: CALL };
        let base = self.chain().find(|extension| extension.type_ == FFI).ok_or_else(missing)?;
        if base.struct_size < size_of::<FfiExtension>() {
            return Err(missing());
        }
        // SAFETY: an extension of this type and size has this layout.
        let extension = unsafe { &*std::ptr::from_ref(base).cast::<FfiExtension>() };
        let register = extension.register_handler.ok_or_else(missing)?;
        let register = |struct_size: usize| {
            let mut args = RegisterArgs {
                struct_size,
                target: T::NAME.as_ptr().cast(),
                target_size: T::NAME.len(),
                handler: handle::<T> as *const c_void,
                platform: PLATFORM.as_ptr().cast(),
                platform_size: PLATFORM.len(),
                traits: 0,
            };
            // SAFETY: the entry reads the struct that its size says, and copies the names; the handler is a function.
            let error = unsafe { register(&raw mut args) };
            // SAFETY: null, or an error that is ours.
            unsafe { self.take_error(CALL, error) }
        };
        // Older plugins have a field more in front of the handler. Their answer to a size that is too small tells.
        match register(1) {
            Some(error) if error.to_string().contains(&REGISTER_SIZE.to_string()) => {}
            _ => return Err(missing()),
        }
        match register(REGISTER_SIZE) {
            None => Ok(()),
            Some(error) => Err(error.into()),
        }
    }
}

/// Called by the plugin, at registration and in every stage of an execution.
unsafe extern "C" fn handle<T: Target>(frame: *const Frame) -> *mut c_void {
    // SAFETY: the plugin's frame lives as long as the call.
    let frame = unsafe { &*frame };
    // SAFETY: null, or a live extension.
    if let Some(extension) = unsafe { frame.extension.as_ref() }
        && extension.kind == METADATA
    {
        // SAFETY: an extension of this type has this layout; the plugin wants its metadata filled in.
        unsafe {
            let metadata = (*std::ptr::from_ref(extension).cast::<MetadataExtension>()).metadata;
            (*metadata).api_version = (*frame.api).api_version;
            (*metadata).traits = 0;
        }
        return null_mut();
    }
    if frame.stage != EXECUTE {
        return null_mut();
    }
    // No panic may reach the plugin.
    let answer =
        catch_unwind(AssertUnwindSafe(|| T::ANSWER(&Call { frame, lasts: Arc::new(AtomicBool::new(true)) })));
    let message = match answer {
        Ok(Ok(())) => return null_mut(),
        Ok(Err(message)) => message,
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
            format!("{} panicked: {words}", T::NAME)
        }
    };
    let message = std::ffi::CString::new(message.replace('\0', " ")).unwrap_or_default();
    let mut args = ErrorArgs {
        struct_size: std::mem::offset_of!(ErrorArgs, code) + size_of::<c_int>(),
        extension: null_mut(),
        message: message.as_ptr(),
        code: INTERNAL,
    };
    // SAFETY: a frame's table lives as long as the call; the entry copies the message.
    unsafe { (*frame.api).error_create.map_or(null_mut(), |create| create(&raw mut args)) }
}
