//! Numbers that plugins abort or hang at stop before them.

use std::sync::OnceLock;

use half::bf16;
use proptest::prelude::*;
use tpu_rpa::runtime::{
    Client, ClientOptions, CompileOptions, DiscoveryOptions, Element, HostBuffer, Plugin, RuntimeError,
};

use crate::{edge, tells};

const PROGRAM: &str = "func.func @main(%a: tensor<4xf32>) -> tensor<4xf32> {
  %b = stablehlo.add %a, %a : tensor<4xf32>
  return %b : tensor<4xf32>
}";

fn plugin() -> Plugin {
    Plugin::discover(&DiscoveryOptions::from_env())
        .unwrap_or_else(|e| panic!("no PJRT plugin, run `make tools`: {e}"))
}

/// Two devices of a CPU; `None` where the plugin is another's.
fn client() -> Option<&'static Client> {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    let client = CLIENT.get_or_init(|| Client::new(&plugin(), ClientOptions::new().device_count(2)).unwrap());
    if client.devices().len() != 2 {
        eprintln!("SKIPPED: {} has {} devices, not 2", client.platform_name(), client.devices().len());
        return None;
    }
    Some(client)
}

/// Numbers of devices near the powers of two, of which plugins take the lower half.
fn count() -> impl Strategy<Value = u32> {
    prop_oneof![
        0..5u32,
        (0..32u32, -2..=2i32).prop_map(|(bits, by)| (1u32 << bits).wrapping_add_signed(by)),
        any::<u32>()
    ]
}

#[test]
fn a_client_makes_from_one_to_the_most_devices() {
    let plugin = plugin();
    let most = ClientOptions::MAX_DEVICES;
    for devices in [0, most + 1, 1 << 16, i32::MAX as u32, 1 << 31, u32::MAX] {
        let error = Client::new(&plugin, ClientOptions::new().device_count(devices)).unwrap_err();
        assert!(matches!(error, RuntimeError::ClientOption { field: "device_count", .. }), "{error}");
        tells(&error, &[devices as usize]);
    }
    for devices in [i64::MIN, -1, 0, i64::from(most) + 1, (1 << 32) + 1, i64::MAX] {
        let error =
            Client::new(&plugin, ClientOptions::new().option("cpu_device_count", devices)).unwrap_err();
        assert!(
            matches!(error, RuntimeError::ClientOption { field: "cpu_device_count", value, .. } if value == devices)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn programs_run_on_devices_that_there_are(replicas in count(), partitions in count(), ordinal in prop::option::of(count())) {
        let Some(client) = client() else { return Ok(()) };
        let devices = client.devices().len() as u64;
        let options = CompileOptions::new().num_replicas(replicas).num_partitions(partitions).use_spmd_partitioning(true);
        let options = ordinal.map_or(options.clone(), |ordinal| options.device_ordinal(ordinal));
        let product = u64::from(replicas) * u64::from(partitions);
        let fits = (1..=devices).contains(&product) && ordinal.is_none_or(|ordinal| u64::from(ordinal) < devices);
        match client.compile(PROGRAM, &options) {
            Ok(program) => prop_assert!(fits && program.num_devices() as u64 == product),
            Err(error) => {
                prop_assert!(!fits, "{}", error);
                prop_assert!(matches!(error, RuntimeError::CompileOption { .. }), "{}", error);
                let values = [replicas, partitions, ordinal.unwrap_or(0)].map(|n| n as usize);
                tells(&error, &[values[0], values[1], values[2], product as usize]);
            }
        }
    }

    #[test]
    fn host_memory(len in edge()) {
        // Between them the host may or may not have the memory, and zeroing it would take its time.
        prop_assume!(!(1 << 22..1 << 46).contains(&len));
        host_buffer::<f32>(len);
        host_buffer::<bf16>(len);
    }
}

/// As many zeros, or an error where there is not the memory.
fn host_buffer<T: Element>(len: usize) {
    match HostBuffer::<T>::zeroed(len) {
        Ok(buffer) => {
            assert!(buffer.len() == len && len as u128 * size_of::<T>() as u128 <= isize::MAX as u128)
        }
        Err(error) => {
            assert!(matches!(error, RuntimeError::HostMemory { .. }) && len > 1 << 20, "{error}");
            tells(&error, &[len]);
        }
    }
}
