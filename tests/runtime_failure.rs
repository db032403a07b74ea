//! A program that fails while it runs, on a thread of the plugin: its error must come out wherever its results are used,
//! and never zeros in their place. Needs a failing operation, which only a custom call gives.
#![cfg(feature = "runtime")]
#![allow(unsafe_code)]

use std::ffi::{c_char, c_void};
use std::future::IntoFuture;
use std::path::Path;
use std::ptr::null_mut;
use std::task::{Context, Poll, Waker};

use tpu_rpa::runtime::{
    Arg, Client, ClientOptions, CompileOptions, DiscoveryOptions, ErrorCode, Plugin, RuntimeError,
};

/// The part of XLA's FFI (xla/ffi/api/c_api.h) that a handler needs to fail.
mod ffi {
    use super::*;

    #[repr(C)]
    pub(super) struct Extension {
        pub(super) struct_size: usize,
        pub(super) kind: i32,
        pub(super) next: *mut Extension,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(super) struct ApiVersion {
        pub(super) struct_size: usize,
        pub(super) extension_start: *mut Extension,
        pub(super) major: i32,
        pub(super) minor: i32,
    }
    #[repr(C)]
    pub(super) struct Metadata {
        pub(super) struct_size: usize,
        pub(super) api_version: ApiVersion,
        pub(super) traits: u32,
    }
    #[repr(C)]
    pub(super) struct MetadataExtension {
        pub(super) base: Extension,
        pub(super) metadata: *mut Metadata,
    }
    #[repr(C)]
    pub(super) struct ErrorArgs {
        pub(super) struct_size: usize,
        pub(super) extension_start: *mut Extension,
        pub(super) message: *const c_char,
        pub(super) code: u32,
    }
    #[repr(C)]
    pub(super) struct Api {
        pub(super) struct_size: usize,
        pub(super) extension_start: *mut Extension,
        pub(super) version: ApiVersion,
        pub(super) internal: *const c_void,
        pub(super) error_create: unsafe extern "C" fn(*mut ErrorArgs) -> *mut c_void,
    }
    #[repr(C)]
    pub(super) struct CallFrame {
        pub(super) struct_size: usize,
        pub(super) extension_start: *mut Extension,
        pub(super) api: *const Api,
        pub(super) context: *mut c_void,
        pub(super) stage: i32,
    }
    /// Arguments of the PJRT extension's `register_handler`; 52 bytes and no API version field.
    #[repr(C)]
    pub(super) struct RegisterArgs {
        pub(super) struct_size: usize,
        pub(super) name: *const c_char,
        pub(super) name_size: usize,
        pub(super) handler: unsafe extern "C" fn(*mut CallFrame) -> *mut c_void,
        pub(super) platform: *const c_char,
        pub(super) platform_size: usize,
        pub(super) traits: u32,
    }
    #[repr(C)]
    pub(super) struct RegisterExtension {
        pub(super) base: Extension,
        pub(super) type_register: *const c_void,
        pub(super) user_data_add: *const c_void,
        pub(super) register_handler: unsafe extern "C" fn(*mut RegisterArgs) -> *mut c_void,
    }

    pub(super) const METADATA: i32 = 1;
    pub(super) const EXECUTE: i32 = 3;
    pub(super) const INTERNAL: u32 = 13;
}

const WORDS: &std::ffi::CStr = c"this call always fails";

/// Answers the registration's question for the version, and fails every execution.
unsafe extern "C" fn fail(frame: *mut ffi::CallFrame) -> *mut c_void {
    // SAFETY: XLA passes a live frame; a metadata extension is of the type that its kind says.
    unsafe {
        let frame = &*frame;
        if !frame.extension_start.is_null() && (*frame.extension_start).kind == ffi::METADATA {
            let metadata = (*frame.extension_start.cast::<ffi::MetadataExtension>()).metadata;
            (*metadata).api_version = (*frame.api).version;
            (*metadata).traits = 0;
            return null_mut();
        }
        if frame.stage != ffi::EXECUTE {
            return null_mut();
        }
        let mut args = ffi::ErrorArgs {
            struct_size: size_of::<ffi::ErrorArgs>(),
            extension_start: null_mut(),
            message: WORDS.as_ptr(),
            code: ffi::INTERNAL,
        };
        ((*frame.api).error_create)(&mut args)
    }
}

/// Registers [`fail`] as `always_fails` with a CPU plugin.
fn register(plugin: &Plugin) {
    let (name, platform) = ("always_fails", "Host");
    // SAFETY: the plugin is loaded, so this opens nothing new; its extensions live as long as it does.
    unsafe {
        let library = libloading::Library::new(plugin.path()).unwrap();
        let get = library.get::<unsafe extern "C" fn() -> *const pjrt_sys::PJRT_Api>(b"GetPjrtApi").unwrap();
        let mut extension = (*get()).extension_start.cast::<ffi::Extension>();
        while !extension.is_null()
            && (*extension).kind != pjrt_sys::PJRT_Extension_Type_PJRT_Extension_Type_FFI as i32
        {
            extension = (*extension).next;
        }
        assert!(!extension.is_null(), "CPU plugins have the FFI extension");
        let mut args = ffi::RegisterArgs {
            struct_size: std::mem::offset_of!(ffi::RegisterArgs, traits) + size_of::<u32>(),
            name: name.as_ptr().cast(),
            name_size: name.len(),
            handler: fail,
            platform: platform.as_ptr().cast(),
            platform_size: platform.len(),
            traits: 0,
        };
        let error = ((*extension.cast::<ffi::RegisterExtension>()).register_handler)(&mut args);
        assert_eq!(error, null_mut());
        std::mem::forget(library);
    }
}

/// Large enough to run on a thread of the plugin, so that the launch itself succeeds.
const N: usize = 1024;

fn failing_program() -> String {
    let ty = format!("tensor<{N}x{N}xf32>");
    format!(
        "func.func @main(%a: {ty}) -> {ty} {{
           %d = stablehlo.dot_general %a, %a, contracting_dims = [1] x [0] : ({ty}, {ty}) -> {ty}
           %c = stablehlo.custom_call @always_fails(%d) {{api_version = 4 : i32, backend_config = {{}}}} : ({ty}) -> {ty}
           return %c : {ty}
         }}"
    )
}

#[track_caller]
fn assert_reported<T>(result: Result<T, RuntimeError>) {
    match result {
        Err(RuntimeError::Plugin(error)) => {
            assert!(error.message().contains(WORDS.to_str().unwrap()), "{error}");
            assert_eq!(error.code(), ErrorCode::Internal);
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a failed execution was reported as success"),
    }
}

/// The tool folder's CPU plugin, even where the environment names a TPU's.
fn discover_cpu() -> Result<Plugin, RuntimeError> {
    let tools = DiscoveryOptions::empty().directory(env!("CARGO_MANIFEST_DIR"));
    Plugin::discover(&tools).or_else(|_| Plugin::discover(&DiscoveryOptions::from_env()))
}

#[test]
fn a_failed_execution_is_an_error_everywhere() {
    let mut plugins = vec![match discover_cpu() {
        Ok(plugin) => plugin,
        Err(error) => panic!("no PJRT plugin: run `make tools`\n{error}"),
    }];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/py-extra");
    for file in ["xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so", "fastatomstruct_xla_cpu/libpjrt_cpu.so"] {
        match Plugin::load(root.join(file)) {
            Ok(plugin) => plugins.push(plugin),
            Err(error) => eprintln!("SKIPPED (`.ci/tools.sh extra` fetches it): {error}"),
        }
    }
    for plugin in plugins {
        register(&plugin);
        let client = Client::new(&plugin, ClientOptions::new().device_count(1)).unwrap();
        let fails = client.compile(&failing_program(), &CompileOptions::new()).unwrap();
        let a = client.upload(&vec![1.0f32; N * N], &[N, N]).unwrap();

        assert_reported(fails.run(&[&a]));

        // Long after it failed, when the event is ready.
        let launch = fails.launch([Arg::Keep(&a)]).unwrap();
        while !launch.is_ready() {
            std::thread::yield_now();
        }
        assert_reported(launch.outputs()[0].to_vec::<f32>());
        assert_reported(launch.outputs()[0].wait());
        assert_reported(launch.wait());

        // As a future that is polled after the fact.
        let mut future = std::pin::pin!(fails.launch([Arg::Keep(&a)]).unwrap().into_future());
        loop {
            match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => break assert_reported(result),
                Poll::Pending => std::thread::yield_now(),
            }
        }

        // Through the launches that take its output, and its output alone.
        let first = fails.launch([Arg::Keep(&a)]).unwrap();
        let double = format!(
            "func.func @main(%a: tensor<{N}x{N}xf32>) -> tensor<{N}x{N}xf32> {{
               %b = stablehlo.add %a, %a : tensor<{N}x{N}xf32>
               return %b : tensor<{N}x{N}xf32>
             }}"
        );
        let double = client.compile(&double, &CompileOptions::new()).unwrap();
        let chained = double.launch([Arg::Keep(&first.outputs()[0])]).and_then(|launch| launch.wait());
        assert_reported(chained);
        assert_reported(fails.launch([Arg::Keep(&a)]).unwrap().into_outputs()[0].to_vec::<f32>());

        // The client is as good as before.
        assert_eq!(double.run(&[&a]).unwrap()[0].to_vec::<f32>().unwrap()[N], 2.0);
    }
}
