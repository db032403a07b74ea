//! libtpu: ahead-of-time compilation needs no TPU, a client does.
#![cfg(feature = "runtime")]

use tpu_rpa::runtime::{Client, ClientOptions, CompileOptions, RuntimeError};

#[test]
fn libtpu_compiles_ahead_of_time_and_says_that_there_is_no_tpu() {
    let Some(plugin) = common::libtpu::libtpu() else { return };
    let error = plugin.topology("TPU v99").unwrap_err();
    assert!(error.to_string().contains("TPU v99"), "{error}");

    let topology = plugin.topology("v6e:2x2").unwrap();
    eprintln!("{plugin:?} {topology:?} {:?}", topology.platform_version().unwrap());
    let program = "func.func @main(%a: tensor<128x128xf32>) -> tensor<128x128xf32> {
      %b = stablehlo.add %a, %a : tensor<128x128xf32>
      return %b : tensor<128x128xf32>
    }";
    let made = topology.compile_aot(program, &CompileOptions::new()).unwrap();
    assert!(!made.bytes.is_empty());
    let memory = made.memory.expect("libtpu tells");
    assert_eq!((memory.argument, memory.output, memory.alias), (1 << 16, 1 << 16, 0), "{memory:?}");
    assert!(memory.generated_code > 0 && memory.temp < 1 << 20, "{memory:?}");
    let error = topology.compile_aot("func.func @main( {", &CompileOptions::new()).unwrap_err();
    assert!(matches!(&error, RuntimeError::Plugin(error) if error.call() == "PJRT_Compile"), "{error}");

    // Numbers that libtpu divides by, narrows, or makes a chip for each of.
    for name in [
        "v6e:0x0",
        "v6e:2x0",
        "v6e=0x2",
        "v6e_2x2x0",
        "v6e:0x0_twisted",
        "v6e:1024x1024",
        "v6e:4294967296x4294967296",
    ] {
        let error = plugin.topology(name).unwrap_err();
        assert!(matches!(error, RuntimeError::TopologyChips { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    for (options, field) in [
        (CompileOptions::new().device_ordinal(u32::MAX), "device_ordinal"),
        (CompileOptions::new().device_ordinal(4), "device_ordinal"),
        (CompileOptions::new().num_replicas(u32::MAX), "num_replicas"),
        (CompileOptions::new().num_partitions(5), "num_partitions"),
        (CompileOptions::new().num_replicas(3).num_partitions(2), "num_replicas x num_partitions"),
    ] {
        let error = topology.compile_aot(program, &options).unwrap_err();
        assert!(
            matches!(&error, RuntimeError::CompileOption { field: found, .. } if *found == field),
            "{error}"
        );
    }

    match Client::new(&plugin, ClientOptions::new().device_count(1)) {
        Ok(client) => {
            assert!(client.is_tpu());
        }
        Err(RuntimeError::Plugin(error)) => {
            eprintln!("{error}");
            assert_eq!(error.call(), "PJRT_Client_Create");
        }
        Err(error) => panic!("{error}"),
    }
}
