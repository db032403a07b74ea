//! One call through a plugin's function table.
//!
//! A plugin refuses an argument struct that is smaller than its own header's, and accepts a larger one. So every struct
//! is passed with a zeroed tail: a newer plugin reads its later fields as zero (their default) and may write results
//! there.

use std::ffi::c_char;
use std::path::Path;

use pjrt_sys::*;

use crate::runtime::error::RuntimeError;
use crate::runtime::plugin_error::{ErrorCode, PluginError};

/// Room for fields that later headers add: the largest growth seen so far is five words.
const TAIL_WORDS: usize = 32;

/// An argument struct followed by a zeroed tail, with `struct_size` covering both.
#[repr(C)]
pub(crate) struct Padded<T> {
    pub(crate) head: T,
    pub(crate) tail: [u64; TAIL_WORDS],
}

/// A struct of the C API that may be padded.
///
/// # Safety
/// Plain C data, aligned to 8, valid when all zero, whose first field is its own size as a `usize`.
pub(crate) unsafe trait Sized8: Copy {}

impl<T: Sized8> Padded<T> {
    pub(crate) fn new() -> Self {
        const { assert!(align_of::<T>() == 8) };
        // SAFETY: `T: Sized8` is valid when all zero.
        let mut args: Self = unsafe { std::mem::zeroed() };
        // SAFETY: the first word of `T: Sized8` is the size field, and `head` is the first field of a `repr(C)` struct.
        unsafe { (&raw mut args).cast::<usize>().write(size_of::<Self>()) };
        args
    }

    /// A pointer to the head that may be used for the tail as well.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        (&raw mut *self).cast()
    }
}

/// The argument struct of one table entry.
///
/// # Safety
/// `entry` returns the table's function for exactly this struct, and that function reports failure by a `PJRT_Error`.
pub(crate) unsafe trait Call: Sized8 {
    const NAME: &'static str;
    fn entry(api: &PJRT_Api) -> Option<unsafe extern "C" fn(*mut Self) -> *mut PJRT_Error>;
}

macro_rules! calls {
    ($($entry:ident($args:ident),)*) => {$(
        // SAFETY: bindgen's copy of a C struct that starts with `size_t struct_size`.
        unsafe impl Sized8 for $args {}
        // SAFETY: the field has the entry's own name and, by its type, takes this struct.
        unsafe impl Call for $args {
            const NAME: &'static str = stringify!($entry);
            fn entry(api: &PJRT_Api) -> Option<unsafe extern "C" fn(*mut Self) -> *mut PJRT_Error> {
                api.$entry
            }
        }
    )*};
}

calls! {
    PJRT_Plugin_Initialize(PJRT_Plugin_Initialize_Args),
    PJRT_Plugin_Attributes(PJRT_Plugin_Attributes_Args),
    PJRT_Event_Destroy(PJRT_Event_Destroy_Args),
    PJRT_Event_IsReady(PJRT_Event_IsReady_Args),
    PJRT_Event_Await(PJRT_Event_Await_Args),
    PJRT_Event_OnReady(PJRT_Event_OnReady_Args),
    PJRT_Client_Create(PJRT_Client_Create_Args),
    PJRT_Client_Destroy(PJRT_Client_Destroy_Args),
    PJRT_Client_PlatformName(PJRT_Client_PlatformName_Args),
    PJRT_Client_PlatformVersion(PJRT_Client_PlatformVersion_Args),
    PJRT_Client_AddressableDevices(PJRT_Client_AddressableDevices_Args),
    PJRT_Client_Compile(PJRT_Client_Compile_Args),
    PJRT_Client_BufferFromHostBuffer(PJRT_Client_BufferFromHostBuffer_Args),
    PJRT_DeviceDescription_Id(PJRT_DeviceDescription_Id_Args),
    PJRT_DeviceDescription_Kind(PJRT_DeviceDescription_Kind_Args),
    PJRT_Device_GetDescription(PJRT_Device_GetDescription_Args),
    PJRT_Executable_Destroy(PJRT_Executable_Destroy_Args),
    PJRT_Executable_NumReplicas(PJRT_Executable_NumReplicas_Args),
    PJRT_Executable_NumPartitions(PJRT_Executable_NumPartitions_Args),
    PJRT_Executable_NumOutputs(PJRT_Executable_NumOutputs_Args),
    PJRT_Executable_OutputElementTypes(PJRT_Executable_OutputElementTypes_Args),
    PJRT_Executable_Serialize(PJRT_Executable_Serialize_Args),
    PJRT_Executable_DeserializeAndLoad(PJRT_Executable_DeserializeAndLoad_Args),
    PJRT_Executable_GetCompiledMemoryStats(PJRT_Executable_GetCompiledMemoryStats_Args),
    PJRT_LoadedExecutable_Destroy(PJRT_LoadedExecutable_Destroy_Args),
    PJRT_LoadedExecutable_GetExecutable(PJRT_LoadedExecutable_GetExecutable_Args),
    PJRT_LoadedExecutable_Execute(PJRT_LoadedExecutable_Execute_Args),
    PJRT_Buffer_Destroy(PJRT_Buffer_Destroy_Args),
    PJRT_Buffer_ElementType(PJRT_Buffer_ElementType_Args),
    PJRT_Buffer_Dimensions(PJRT_Buffer_Dimensions_Args),
    PJRT_Buffer_Device(PJRT_Buffer_Device_Args),
    PJRT_Buffer_ToHostBuffer(PJRT_Buffer_ToHostBuffer_Args),
    PJRT_Buffer_ReadyEvent(PJRT_Buffer_ReadyEvent_Args),
    PJRT_Buffer_IsDeleted(PJRT_Buffer_IsDeleted_Args),
    PJRT_TopologyDescription_Create(PJRT_TopologyDescription_Create_Args),
    PJRT_TopologyDescription_Destroy(PJRT_TopologyDescription_Destroy_Args),
    PJRT_TopologyDescription_PlatformName(PJRT_TopologyDescription_PlatformName_Args),
    PJRT_TopologyDescription_PlatformVersion(PJRT_TopologyDescription_PlatformVersion_Args),
    PJRT_TopologyDescription_GetDeviceDescriptions(PJRT_TopologyDescription_GetDeviceDescriptions_Args),
    PJRT_Compile(PJRT_Compile_Args),
}
// SAFETY: as above; nested in the arguments of Execute.
unsafe impl Sized8 for PJRT_ExecuteOptions {}
// SAFETY: as above; nested in the arguments of ToHostBuffer.
unsafe impl Sized8 for PJRT_Buffer_MemoryLayout {}
// SAFETY: as above; nested in the arguments of Compile.
unsafe impl Sized8 for PJRT_Program {}

/// A checked function table. It and the library behind it live until the process ends.
pub(crate) struct Table {
    /// The part of the plugin's table that `pjrt-sys` has names for.
    pub(crate) api: PJRT_Api,
    pub(crate) path: Box<Path>,
}

// SAFETY: the table is immutable after loading; the C API may be called from any thread.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    /// Calls the entry that takes `A` and returns the struct with its out fields.
    ///
    /// # Safety
    /// The pointers that `fill` stores are what the entry's header comment demands, for as long as it demands.
    pub(crate) unsafe fn call<A: Call>(&self, fill: impl FnOnce(&mut A)) -> Result<A, RuntimeError> {
        // SAFETY: the caller's promise.
        unsafe { self.call_padded(fill) }.map(|args| args.head)
    }

    /// [`Table::call`] that also returns the tail.
    ///
    /// # Safety
    /// As for [`Table::call`].
    pub(crate) unsafe fn call_padded<A: Call>(
        &self,
        fill: impl FnOnce(&mut A),
    ) -> Result<Padded<A>, RuntimeError> {
        let entry = A::entry(&self.api).ok_or(RuntimeError::MissingEntry { entry: A::NAME })?;
        let mut args = Padded::<A>::new();
        fill(&mut args.head);
        // SAFETY: `args` is this entry's struct and larger than the plugin's; the caller answers for the pointers in it.
        let error = unsafe { entry(args.as_mut_ptr()) };
        // SAFETY: an entry returns null or an error that the caller owns.
        match unsafe { self.take_error(A::NAME, error) } {
            None => Ok(args),
            Some(error) => Err(error.into()),
        }
    }

    /// Calls a `*_Destroy` entry. Its failure leaks and cannot be acted upon.
    ///
    /// # Safety
    /// As for [`Table::call`], and the object is not used again.
    pub(crate) unsafe fn destroy<A: Call>(&self, fill: impl FnOnce(&mut A)) {
        // SAFETY: the caller's promise.
        if let Err(error) = unsafe { self.call(fill) } {
            tracing::debug!(%error, "destroying a plugin object failed");
        }
    }

    /// Turns an error object into its words and code, and frees it.
    ///
    /// # Safety
    /// `error` is null, or an error of this plugin that nobody else frees.
    pub(crate) unsafe fn take_error(
        &self,
        call: &'static str,
        error: *mut PJRT_Error,
    ) -> Option<PluginError> {
        if error.is_null() {
            return None;
        }
        let mut message = String::new();
        if let Some(entry) = self.api.PJRT_Error_Message {
            let mut args = Padded::<PJRT_Error_Message_Args>::new();
            args.head.error = error;
            // SAFETY: `error` is alive; the text lives as long as it does and is copied here.
            unsafe {
                entry(args.as_mut_ptr());
                message = text(args.head.message, args.head.message_size);
            }
        }
        let mut code = ErrorCode::Unknown;
        if let Some(entry) = self.api.PJRT_Error_GetCode {
            let mut args = Padded::<PJRT_Error_GetCode_Args>::new();
            args.head.error = error;
            // SAFETY: `error` is alive. A failure of this entry would be an endless recursion, so it is not looked into.
            if unsafe { entry(args.as_mut_ptr()) }.is_null() {
                code = ErrorCode::from_raw(args.head.code);
            }
        }
        if let Some(entry) = self.api.PJRT_Error_Destroy {
            let mut args = Padded::<PJRT_Error_Destroy_Args>::new();
            args.head.error = error;
            // SAFETY: the caller gave us the error; it is not used after this.
            unsafe { entry(args.as_mut_ptr()) };
        }
        Some(PluginError::new(call, code, message))
    }
}

// SAFETY: bindgen's copies of C structs that start with `size_t struct_size`.
unsafe impl Sized8 for PJRT_Error_Message_Args {}
// SAFETY: as above.
unsafe impl Sized8 for PJRT_Error_GetCode_Args {}
// SAFETY: as above.
unsafe impl Sized8 for PJRT_Error_Destroy_Args {}

/// Copies `len` bytes of the plugin's text; null is the empty text.
///
/// # Safety
/// `data` is null or points to `len` readable bytes.
pub(crate) unsafe fn text(data: *const c_char, len: usize) -> String {
    // SAFETY: the caller's promise.
    String::from_utf8_lossy(unsafe { slice(data.cast::<u8>(), len) }).into_owned()
}

/// A plugin's array; null is the empty array.
///
/// # Safety
/// `data` is null or points to `len` elements that stay unchanged for `'a`.
pub(crate) unsafe fn slice<'a, T>(data: *const T, len: usize) -> &'a [T] {
    if data.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(data, len) }
}
