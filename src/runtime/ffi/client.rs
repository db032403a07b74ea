//! Clients and their devices.

use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use pjrt_sys::*;

use super::abi::{Table, slice, text};
use super::event::RawEvent;
use super::types::non_null;
use crate::runtime::error::RuntimeError;
use crate::runtime::options::OptionValue;

/// What a plugin says about a device.
#[derive(Clone, Debug)]
pub(crate) struct RawDevice {
    pub(super) ptr: NonNull<PJRT_Device>,
    pub(crate) id: i32,
    pub(crate) kind: String,
}

/// A client and its devices.
pub(crate) struct RawClient {
    pub(super) table: &'static Table,
    pub(super) ptr: NonNull<PJRT_Client>,
    pub(super) devices: Vec<RawDevice>,
    /// Launches that nobody waits for; the client must outlive them.
    detached: Mutex<Vec<RawEvent>>,
}

// SAFETY: PJRT clients and devices may be used from any thread; the rest is immutable or locked.
unsafe impl Send for RawClient {}
// SAFETY: as above.
unsafe impl Sync for RawClient {}

impl RawClient {
    pub(crate) fn create(
        table: &'static Table,
        options: &[(String, OptionValue)],
    ) -> Result<Self, RuntimeError> {
        let options: Vec<pjrt::NamedValue> = options
            .iter()
            .map(|(name, value)| match value {
                OptionValue::String(value) => pjrt::NamedValue::string(name, value),
                OptionValue::Int64(value) => pjrt::NamedValue::i64(name, *value),
                OptionValue::Int64List(value) => pjrt::NamedValue::i64_list(name, value.clone()),
                OptionValue::Float(value) => pjrt::NamedValue::f32(name, *value),
                OptionValue::Bool(value) => pjrt::NamedValue::bool(name, *value),
            })
            .collect();
        let raw: Vec<PJRT_NamedValue> = options.iter().map(Into::into).collect();
        // SAFETY: `raw` and the `options` it points into live through the call.
        let args = unsafe {
            table.call::<PJRT_Client_Create_Args>(|args| {
                args.create_options = raw.as_ptr();
                args.num_options = raw.len();
            })
        }?;
        let ptr = non_null(args.client, "PJRT_Client_Create", "client")?;
        let mut client = Self { table, ptr, devices: Vec::new(), detached: Mutex::default() };
        client.devices = client.query_devices()?;
        Ok(client)
    }

    fn query_devices(&self) -> Result<Vec<RawDevice>, RuntimeError> {
        // SAFETY: the client is alive.
        let args = unsafe {
            self.table.call::<PJRT_Client_AddressableDevices_Args>(|args| args.client = self.ptr.as_ptr())
        }?;
        // SAFETY: the client owns the array while it lives.
        unsafe { slice(args.addressable_devices, args.num_addressable_devices) }
            .iter()
            .map(|&device| {
                let ptr = non_null(device, "PJRT_Client_AddressableDevices", "device")?;
                // SAFETY: devices live as long as their client, descriptions as long as their device.
                unsafe {
                    let description = self
                        .table
                        .call::<PJRT_Device_GetDescription_Args>(|args| args.device = device)?
                        .device_description;
                    let id = self
                        .table
                        .call::<PJRT_DeviceDescription_Id_Args>(|args| args.device_description = description)?
                        .id;
                    let kind = self.table.call::<PJRT_DeviceDescription_Kind_Args>(|args| {
                        args.device_description = description
                    })?;
                    Ok(RawDevice { ptr, id, kind: text(kind.device_kind, kind.device_kind_size) })
                }
            })
            .collect()
    }

    pub(crate) fn devices(&self) -> &[RawDevice] {
        &self.devices
    }

    pub(crate) fn platform_name(&self) -> Result<String, RuntimeError> {
        // SAFETY: the client is alive and owns the text.
        unsafe {
            let args =
                self.table.call::<PJRT_Client_PlatformName_Args>(|args| args.client = self.ptr.as_ptr())?;
            Ok(text(args.platform_name, args.platform_name_size))
        }
    }

    pub(crate) fn platform_version(&self) -> Result<String, RuntimeError> {
        // SAFETY: the client is alive and owns the text.
        unsafe {
            let args = self
                .table
                .call::<PJRT_Client_PlatformVersion_Args>(|args| args.client = self.ptr.as_ptr())?;
            Ok(text(args.platform_version, args.platform_version_size))
        }
    }

    /// Keeps the events of launches that nobody waits for, so that the client is not destroyed under them.
    pub(crate) fn detach(&self, events: impl IntoIterator<Item = RawEvent>) {
        let mut detached = self.detached.lock().unwrap_or_else(PoisonError::into_inner);
        detached.retain(|event| !event.is_ready());
        detached.extend(events.into_iter().filter(|event| !event.is_ready()));
    }
}

impl Drop for RawClient {
    fn drop(&mut self) {
        for event in self.detached.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // The launch's own error has no receiver any more.
            let _ = event.wait();
        }
        // SAFETY: every buffer, executable and launch of this client holds an `Arc` to it or was waited for above.
        unsafe {
            self.table.destroy::<PJRT_Client_Destroy_Args>(|args| args.client = self.ptr.as_ptr());
        }
    }
}
