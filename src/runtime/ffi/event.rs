//! Events, and callbacks on them.

use std::ffi::c_void;
use std::ptr::NonNull;

use pjrt_sys::*;

use super::abi::Table;
use crate::runtime::error::RuntimeError;
use crate::runtime::plugin_error::PluginError;

/// Something that will happen, or has.
pub(crate) struct RawEvent {
    pub(super) table: &'static Table,
    pub(super) ptr: NonNull<PJRT_Event>,
}

// SAFETY: PJRT events may be used and freed from any thread.
unsafe impl Send for RawEvent {}
// SAFETY: as above.
unsafe impl Sync for RawEvent {}

type Callback = Box<dyn FnOnce(Option<PluginError>) + Send>;

impl RawEvent {
    /// Blocks until the event has happened; returns its error.
    pub(crate) fn wait(&self) -> Result<(), RuntimeError> {
        // SAFETY: the event is alive.
        unsafe { self.table.call::<PJRT_Event_Await_Args>(|args| args.event = self.ptr.as_ptr()) }.map(|_| ())
    }

    /// Whether the event has happened, successfully or not. A plugin that cannot tell counts as not ready.
    pub(crate) fn is_ready(&self) -> bool {
        // SAFETY: the event is alive.
        unsafe { self.table.call::<PJRT_Event_IsReady_Args>(|args| args.event = self.ptr.as_ptr()) }
            .is_ok_and(|args| args.is_ready)
    }

    /// Runs `callback` once the event has happened: at once, or later on a thread of the plugin. It must be short.
    /// If the plugin refuses, the callback is leaked and never runs.
    pub(crate) fn on_ready(&self, callback: Callback) -> Result<(), RuntimeError> {
        let user_arg = Box::into_raw(Box::new(OnReady { table: self.table, callback }));
        // SAFETY: the event is alive; the plugin calls `run` once with `user_arg`, which nothing else owns.
        unsafe {
            self.table.call::<PJRT_Event_OnReady_Args>(|args| {
                args.event = self.ptr.as_ptr();
                args.callback = Some(OnReady::run);
                args.user_arg = user_arg.cast();
            })
        }
        .map(|_| ())
    }
}

impl Drop for RawEvent {
    fn drop(&mut self) {
        // SAFETY: this is the event's only owner.
        unsafe { self.table.destroy::<PJRT_Event_Destroy_Args>(|args| args.event = self.ptr.as_ptr()) };
    }
}

struct OnReady {
    table: &'static Table,
    callback: Callback,
}

impl OnReady {
    unsafe extern "C" fn run(error: *mut PJRT_Error, user_arg: *mut c_void) {
        // SAFETY: `user_arg` came from `Box::into_raw` in `on_ready`, and this is its one call.
        let this = unsafe { Box::from_raw(user_arg.cast::<OnReady>()) };
        // SAFETY: the callback owns the error.
        let error = unsafe { this.table.take_error("PJRT_Event_OnReady", error) };
        // A waker or a destructor of the user may panic; that must not unwind into the plugin.
        let callback = std::panic::AssertUnwindSafe(this.callback);
        if std::panic::catch_unwind(move || { callback }.0(error)).is_err() {
            tracing::error!("a completion callback panicked");
        }
    }
}
