//! The runtime against real CPU plugins: three C API versions in one process.
#![cfg(feature = "runtime")]

use std::future::{Future, IntoFuture};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use half::bf16;
use tpu_rpa::runtime::{
    Arg, Buffer, Client, ClientOptions, CompileOptions, DiscoveryOptions, Element, ErrorCode, Executable,
    HostBuffer, Outcome, Plugin, RuntimeError, Source,
};
use tpu_rpa::spec::DType;

/// The tool folder's CPU plugin, even where the environment names a TPU's.
fn discover_cpu() -> Result<Plugin, RuntimeError> {
    let tools = DiscoveryOptions::empty().directory(env!("CARGO_MANIFEST_DIR"));
    Plugin::discover(&tools).or_else(|_| Plugin::discover(&DiscoveryOptions::from_env()))
}

/// The plugin that every machine with the tool folder has.
fn plugin() -> Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    *PLUGIN.get_or_init(|| match discover_cpu() {
        Ok(plugin) => plugin,
        Err(error) => panic!("no PJRT plugin: run `make tools`\n{error}"),
    })
}

/// That plugin and the two older ones, where the machine has them.
fn plugins() -> Vec<Plugin> {
    let mut plugins = vec![plugin()];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/py-extra");
    for file in ["xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so", "fastatomstruct_xla_cpu/libpjrt_cpu.so"] {
        let path = root.join(file);
        if path.is_file() {
            plugins.push(Plugin::load(&path).expect("extra plugin loads"));
        } else {
            eprintln!("SKIPPED: {} is missing (`.ci/tools.sh extra` fetches it)", path.display());
        }
    }
    plugins
}

fn client_of(plugin: &Plugin, devices: u32) -> Client {
    Client::new(plugin, ClientOptions::new().device_count(devices)).expect("client")
}

/// One client with one device, shared by the tests that need nothing special.
fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| client_of(&plugin(), 1))
}

fn add_program(dtype: DType, dims: &str) -> String {
    format!(
        "func.func @main(%a: tensor<{dims}{dtype}>, %b: tensor<{dims}{dtype}>) -> tensor<{dims}{dtype}> {{\n  \
           %c = stablehlo.add %a, %b : tensor<{dims}{dtype}>\n  return %c : tensor<{dims}{dtype}>\n}}"
    )
}

fn add(client: &Client) -> Arc<Executable> {
    client.compile(&add_program(DType::F32, "2x3x"), &CompileOptions::new()).expect("compiles")
}

const SIX: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];

fn six(client: &Client) -> Buffer {
    client.upload(&SIX, &[2, 3]).expect("upload")
}

#[test]
fn every_plugin_runs_every_dtype_in_one_process() {
    fn check<T: Element + PartialEq + std::fmt::Debug>(client: &Client, values: [T; 4], sums: [T; 4]) {
        let program = client.compile(&add_program(T::DTYPE, "2x2x"), &CompileOptions::new()).unwrap();
        let a = client.upload(&values, &[2, 2]).unwrap();
        let outputs = program.run(&[&a, &a]).unwrap();
        assert_eq!(outputs.len(), 1);
        assert_eq!((outputs[0].dtype(), outputs[0].dims()), (T::DTYPE, &[2, 2][..]));
        assert_eq!(outputs[0].size_bytes(), 4 * size_of::<T>());
        assert_eq!(outputs[0].to_vec::<T>().unwrap(), sums);
        let mut into = [T::zeroed(); 4];
        outputs[0].read_into(&mut into).unwrap();
        assert_eq!(into, sums);
    }
    let clients: Vec<Client> = plugins().iter().map(|plugin| client_of(plugin, 1)).collect();
    for client in &clients {
        check(client, SIX[..4].try_into().unwrap(), [2.0f32, 4.0, 6.0, 8.0]);
        check(client, [1.0, 2.5, -3.0, 0.0].map(bf16::from_f32), [2.0, 5.0, -6.0, 0.0].map(bf16::from_f32));
        check(client, [1, -2, i32::MAX, 7], [2, -4, -2, 14]);
        assert_eq!(client.platform_name(), "cpu");
        assert!(!client.is_tpu() && !client.platform_version().is_empty());
        assert_eq!(client.devices().len(), 1);
        assert!(!client.devices()[0].kind().is_empty());
        let (major, minor) = client.plugin().api_version();
        assert!(major == 0 && minor >= 54, "{major}.{minor}");
    }
}

#[test]
fn the_same_file_is_the_same_plugin() {
    let first = plugin();
    let link = tempfile::tempdir().unwrap();
    let other = link.path().join("other_cpu_name.so");
    std::os::unix::fs::symlink(first.path(), &other).unwrap();
    assert_eq!(Plugin::load(&other).unwrap(), first);
    // A hard link is another path to what the loader knows to be the same library. It may lie on another file system.
    let hard =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hard_link_cpu_{}.so", std::process::id()));
    if std::fs::hard_link(first.path(), &hard).is_ok() {
        let loaded = Plugin::load(&hard);
        std::fs::remove_file(&hard).unwrap();
        assert_eq!(loaded.unwrap(), first);
    }
    assert!(!first.attributes().is_empty());
}

#[test]
fn bad_plugin_files_are_typed_errors() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.so");
    assert!(matches!(Plugin::load(&missing), Err(RuntimeError::PluginFile { path, .. }) if path == missing));
    let text = dir.path().join("text.so");
    std::fs::write(&text, "not a shared object").unwrap();
    let error = Plugin::load(&text).unwrap_err();
    assert!(matches!(&error, RuntimeError::PluginOpen { .. }), "{error}");
    assert!(error.to_string().contains("text.so"), "{error}");
    let libm = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/usr/lib/libm.so.6"];
    let libm = libm.iter().find(|path| Path::new(path).is_file()).expect("a libm somewhere");
    let error = Plugin::load(libm).unwrap_err();
    assert!(matches!(&error, RuntimeError::PluginSymbol { symbol: "GetPjrtApi", .. }), "{error}");
}

#[test]
fn unknown_client_option_is_the_plugins_error() {
    let error = Client::new(&plugin(), ClientOptions::new().option("no_such_option", 1i64)).unwrap_err();
    let RuntimeError::Plugin(error) = error else { panic!("{error}") };
    assert_eq!((error.call(), error.code()), ("PJRT_Client_Create", ErrorCode::InvalidArgument));
    assert!(error.message().contains("no_such_option"), "{error}");
}

#[test]
fn wrong_uploads_and_reads_name_the_bound() {
    let client = client();
    let error = client.upload(&SIX, &[2, 4]).unwrap_err();
    assert!(matches!(error, RuntimeError::ElementCount { found: 6, expected: 8, .. }), "{error}");
    let error = client.upload(&SIX, &[usize::MAX, 2]).unwrap_err();
    assert!(matches!(error, RuntimeError::ShapeOverflow { .. }), "{error}");
    let error = client.upload_to(9, &SIX, &[6]).unwrap_err();
    assert!(matches!(error, RuntimeError::DeviceIndex { index: 9, count: 1 }), "{error}");
    let buffer = six(client);
    let error = buffer.to_vec::<i32>().unwrap_err();
    let (found, requested) = (DType::F32, DType::I32);
    assert!(
        matches!(error, RuntimeError::BufferDType { found: f, requested: r } if (f, r) == (found, requested))
    );
    assert!(matches!(buffer.read_into(&mut [0.0f32; 5]), Err(RuntimeError::ElementCount { .. })));
    assert_eq!(buffer.device_index().unwrap(), 0);
}

#[test]
fn wrong_arguments_are_refused_before_the_call() {
    let client = client();
    let add = add(client);
    let good = six(client);
    let error = add.run(&[&good]).unwrap_err();
    assert!(matches!(error, RuntimeError::ArgumentCount { expected: 2, found: 1, .. }), "{error}");
    let ints = client.upload(&[1i32; 6], &[2, 3]).unwrap();
    let error = add.run(&[&good, &ints]).unwrap_err();
    assert_eq!(error.to_string(), "argument 1 is i32; the program takes f32");
    let turned = client.upload(&SIX, &[3, 2]).unwrap();
    let error = add.run(&[&turned, &good]).unwrap_err();
    assert_eq!(error.to_string(), "argument 0 has dims [3, 2]; the program takes tensor<2x3xf32>");
    let error = add.run_sharded(&[vec![&good, &good], vec![&good, &good]]).unwrap_err();
    assert!(matches!(error, RuntimeError::DeviceCount { expected: 1, found: 2 }), "{error}");
    // Even where the text cannot be read, the plugin's own check holds.
    let other = client_of(&plugin(), 1);
    let foreign = six(&other);
    assert!(matches!(add.run(&[&good, &foreign]), Err(RuntimeError::ForeignArgument { index: 1 })));
    let unchecked = client.load(&add.serialize().unwrap(), "").unwrap();
    assert!(unchecked.signature().is_none());
    assert!(matches!(unchecked.run(&[&good]), Err(RuntimeError::Plugin(_))));
}

#[test]
fn compile_errors_carry_the_compilers_words() {
    for plugin in plugins() {
        let client = client_of(&plugin, 1);
        let error = client.compile("func.func @main( {", &CompileOptions::new()).unwrap_err();
        assert!(
            matches!(&error, RuntimeError::Plugin(error) if error.call() == "PJRT_Client_Compile"),
            "{error}"
        );
        // A place in the text comes with its line.
        assert!(
            matches!(&error, RuntimeError::Plugin(error) if error.line() == Some((1, "func.func @main( {")))
        );
        let undefined =
            "module @m {\nfunc.func @main(%a: tensor<f32>) -> tensor<f32> {\n  return %b : tensor<f32>\n}\n}";
        let error = client.compile(undefined, &CompileOptions::new()).unwrap_err();
        assert!(error.to_string().ends_with("\nline 3: return %b : tensor<f32>"), "{error}");
        let wrong = add_program(DType::F32, "4x").replace("stablehlo.add", "stablehlo.no_such_op");
        let error = client.compile(&wrong, &CompileOptions::new()).unwrap_err();
        assert!(error.to_string().contains("no_such_op"), "{error}");
        let flag = CompileOptions::new().env_option("xla_no_such_flag", "1");
        let error = client.compile(&add_program(DType::F32, "4x"), &flag).unwrap_err();
        assert!(error.to_string().contains("xla_no_such_flag"), "{error}");
        let none = client.compile(&add_program(DType::F32, "4x"), &CompileOptions::new().num_replicas(0));
        assert!(matches!(none, Err(RuntimeError::CompileOption { field: "num_replicas", .. })));
        let compare = "func.func @main(%a: tensor<4xf32>) -> tensor<4xi1> {
          %c = stablehlo.compare EQ, %a, %a : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xi1>
          return %c : tensor<4xi1>
        }";
        let error = client.compile(compare, &CompileOptions::new()).unwrap_err();
        assert!(matches!(error, RuntimeError::OutputElementType { index: 0, .. }), "{error}");
    }
}

#[test]
fn handles_may_be_dropped_in_any_order() {
    for plugin in plugins() {
        let client = client_of(&plugin, 1);
        let add = add(&client);
        let buffer = six(&client);
        drop(client);
        let outputs = add.run(&[&buffer, &buffer]).unwrap();
        drop((add, buffer));
        assert_eq!(outputs[0].to_vec::<f32>().unwrap(), SIX.map(|x| 2.0 * x));
    }
}

#[test]
fn launches_dropped_while_running_outlive_their_handles() {
    for plugin in plugins() {
        let client = client_of(&plugin, 1);
        let square = client.compile(&square_program(512), &CompileOptions::new()).unwrap();
        let a = client.upload(&vec![0.0f32; 512 * 512], &[512, 512]).unwrap();
        for _ in 0..4 {
            drop(square.launch([Arg::Keep(&a)]).unwrap());
        }
        let outputs = square.launch([Arg::Donate(a)]).unwrap().into_outputs();
        drop((square, client));
        assert_eq!(outputs[0].to_vec::<f32>().unwrap(), vec![0.0; 512 * 512]);
    }
}

fn square_program(n: usize) -> String {
    let ty = format!("tensor<{n}x{n}xf32>");
    format!(
        "func.func public @main(%a: {ty}) -> {ty} {{\n  %d = stablehlo.dot_general %a, %a, \
         contracting_dims = [1] x [0] : ({ty}, {ty}) -> {ty}\n  return %d : {ty}\n}}"
    )
}

#[test]
fn launches_chain_without_waiting_and_can_be_awaited() {
    let client = client();
    let square = client.compile(&square_program(256), &CompileOptions::new()).unwrap();
    let eye: Vec<f32> = (0..256 * 256).map(|i| if i % 257 == 0 { 2.0 } else { 0.0 }).collect();
    let a = client.upload(&eye, &[256, 256]).unwrap();
    let first = square.launch([Arg::Keep(&a)]).unwrap();
    let second = square.launch([Arg::Keep(&first.outputs()[0])]).unwrap();
    let third = square.launch([Arg::Keep(&second.outputs()[0])]).unwrap();
    let output = block_on(third.into_future()).unwrap();
    assert_eq!(output[0].to_vec::<f32>().unwrap()[257], 256.0);
    // A launch may report its end after its output was already used.
    second.wait().unwrap();
    assert_eq!(first.wait().unwrap()[0].to_vec::<f32>().unwrap()[0], 4.0);
    // A future may be dropped at any time.
    drop(square.launch([Arg::Keep(&a)]).unwrap().into_future());
    let mut polled = square.launch([Arg::Keep(&a)]).unwrap().into_future();
    let _ = std::pin::pin!(&mut polled).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    drop(polled);
}

/// The smallest async runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn donated_inputs_are_deleted_and_kept_ones_survive() {
    for plugin in plugins() {
        let client = client_of(&plugin, 1);
        let program = add_program(DType::F32, "1024x")
            .replace("%a: tensor<1024xf32>", "%a: tensor<1024xf32> {tf.aliasing_output = 0 : i32}");
        let program = client.compile(&program, &CompileOptions::new()).unwrap();
        let ones = vec![1.0f32; 1024];
        let (a, b) = (client.upload(&ones, &[1024]).unwrap(), client.upload(&ones, &[1024]).unwrap());
        let kept = program.run(&[&a, &b]).unwrap();
        assert!(!a.is_deleted() && !b.is_deleted() && !kept[0].is_deleted());
        let clone = a.clone();
        let outputs = program.launch([Arg::Donate(a), Arg::Keep(&b)]).unwrap().wait().unwrap();
        assert_eq!(outputs[0].to_vec::<f32>().unwrap(), vec![2.0; 1024]);
        assert!(clone.is_deleted() && !b.is_deleted());
        let error = program.run(&[&clone, &b]).unwrap_err();
        assert!(matches!(error, RuntimeError::ArgumentDeleted { index: 0 }), "{error}");
        assert!(matches!(clone.to_vec::<f32>(), Err(RuntimeError::Plugin(_))));
        assert_eq!(b.to_vec::<f32>().unwrap(), ones);
        // What was loaded from bytes still knows which argument may be taken over.
        let loaded = client.load(&program.serialize().unwrap(), "").unwrap();
        let again = client.upload(&ones, &[1024]).unwrap();
        let outputs = loaded.launch([Arg::Donate(again.clone()), Arg::Keep(&b)]).unwrap().wait().unwrap();
        assert_eq!(outputs[0].to_vec::<f32>().unwrap(), vec![2.0; 1024]);
        assert!(again.is_deleted());
        let twice = program.launch([Arg::Donate(b.clone()), Arg::Keep(&b)]).and_then(|launch| launch.wait());
        assert!(twice.is_err(), "a buffer cannot be both donated and kept");
    }
}

#[test]
fn lent_host_memory_lives_until_the_buffer_is_freed() {
    struct Tracked(HostBuffer<f32>, Arc<AtomicUsize>);
    impl AsRef<[f32]> for Tracked {
        fn as_ref(&self) -> &[f32] {
            &self.0
        }
    }
    impl Drop for Tracked {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    for plugin in plugins() {
        let client = client_of(&plugin, 1);
        let dropped = Arc::new(AtomicUsize::new(0));
        let host = Tracked(HostBuffer::try_from(&SIX[..]).unwrap(), dropped.clone());
        assert_eq!(host.0.as_ptr().align_offset(64), 0);
        let buffer = client.upload_owned(host, &[2, 3]).unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 0, "CPU plugins use aligned memory in place");
        let outputs = add(&client).run(&[&buffer, &buffer]).unwrap();
        assert_eq!(outputs[0].to_vec::<f32>().unwrap(), SIX.map(|x| 2.0 * x));
        assert_eq!(dropped.load(Ordering::SeqCst), 0);
        drop((buffer, outputs));
        let start = std::time::Instant::now();
        while dropped.load(Ordering::SeqCst) == 0 && start.elapsed().as_secs() < 10 {
            std::thread::yield_now();
        }
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        // Refused before the loan begins, and memory that is not aligned.
        assert!(client.upload_owned(vec![1.0f32; 5], &[6]).is_err());
        assert_eq!(client.upload_owned(vec![7i32, 8], &[2]).unwrap().to_vec::<i32>().unwrap(), [7, 8]);
    }
}

#[test]
fn zero_size_and_scalar_buffers() {
    for plugin in plugins() {
        let client = client_of(&plugin, 1);
        let empty = client.upload::<f32>(&[], &[0, 3]).unwrap();
        assert!(empty.is_empty() && empty.to_vec::<f32>().unwrap().is_empty());
        let program = client.compile(&add_program(DType::F32, "0x3x"), &CompileOptions::new()).unwrap();
        let outputs = program.run(&[&empty, &empty]).unwrap();
        assert_eq!((outputs[0].dims(), outputs[0].len()), (&[0, 3][..], 0));
        outputs[0].read_into::<f32>(&mut []).unwrap();
        let lent = client.upload_owned(HostBuffer::<bf16>::zeroed(0).unwrap(), &[4, 0]).unwrap();
        assert_eq!(lent.size_bytes(), 0);
        let scalar = client.upload(&[3i32], &[]).unwrap();
        let program = client.compile(&add_program(DType::I32, ""), &CompileOptions::new()).unwrap();
        assert_eq!(program.run(&[&scalar, &scalar]).unwrap()[0].to_vec::<i32>().unwrap(), [6]);
    }
}

/// Projects per-head outputs back; the sum over heads crosses devices when heads are sharded.
fn projection(sharded: bool) -> String {
    let (mesh, attributes, head, whole) = if sharded {
        (
            "sdy.mesh @mesh = <[\"h\"=4]>",
            "attributes {mhlo.num_partitions = 4 : i32, mhlo.num_replicas = 1 : i32}",
            "{sdy.sharding = #sdy.sharding<@mesh, [{\"h\"}, {}, {}]>}",
            "{sdy.sharding = #sdy.sharding<@mesh, [{}, {}]>}",
        )
    } else {
        ("", "", "", "")
    };
    format!(
        "module @m {attributes} {{ {mesh}
          func.func @main(%o: tensor<8x16x32xf32> {head}, %w: tensor<8x32x64xf32> {head}) -> (tensor<16x64xf32> {whole}) {{
            %y = stablehlo.dot_general %o, %w, contracting_dims = [0, 2] x [0, 1] : (tensor<8x16x32xf32>, tensor<8x32x64xf32>) -> tensor<16x64xf32>
            return %y : tensor<16x64xf32>
          }}
        }}"
    )
}

#[test]
fn four_devices_all_reduce() {
    let values =
        |n: usize, scale: usize| (0..n).map(|i| ((i * scale) % 13) as f32 / 13.0 - 0.5).collect::<Vec<_>>();
    let (o, w) = (values(8 * 16 * 32, 7), values(8 * 32 * 64, 5));
    for plugin in plugins() {
        let client = client_of(&plugin, 4);
        assert_eq!(client.devices().len(), 4);
        let single = client.compile(&projection(false), &CompileOptions::new()).unwrap();
        let (o1, w1) = (client.upload(&o, &[8, 16, 32]).unwrap(), client.upload(&w, &[8, 32, 64]).unwrap());
        let expected = single.run(&[&o1, &w1]).unwrap()[0].to_vec::<f32>().unwrap();

        let options = CompileOptions::new().num_partitions(4).use_spmd_partitioning(true).use_shardy(true);
        let program = client.compile(&projection(true), &options).unwrap();
        assert_eq!((program.num_devices(), program.num_outputs()), (4, 1));
        let shards: Vec<[Buffer; 2]> = (0..4)
            .map(|d| {
                let (o_len, w_len) = (2 * 16 * 32, 2 * 32 * 64);
                [
                    client.upload_to(d, &o[d * o_len..(d + 1) * o_len], &[2, 16, 32]).unwrap(),
                    client.upload_to(d, &w[d * w_len..(d + 1) * w_len], &[2, 32, 64]).unwrap(),
                ]
            })
            .collect();
        let arguments: Vec<Vec<&Buffer>> = shards.iter().map(|shard| shard.iter().collect()).collect();
        let outputs = program.run_sharded(&arguments).unwrap();
        assert_eq!(outputs.len(), 4);
        for (d, output) in outputs.iter().enumerate() {
            assert_eq!(output[0].device_index().unwrap(), d);
            for (got, want) in output[0].to_vec::<f32>().unwrap().iter().zip(&expected) {
                assert!((got - want).abs() < 2e-5, "{got} {want}");
            }
        }
        let error = program.launch([Arg::Keep(&shards[0][0]), Arg::Keep(&shards[0][1])]).unwrap_err();
        assert!(matches!(error, RuntimeError::DeviceCount { expected: 4, found: 1 }), "{error}");
        let error = program.run_sharded(&vec![vec![&shards[0][0]]; 4]).unwrap_err();
        assert!(matches!(error, RuntimeError::ArgumentCount { expected: 2, found: 1, device: 0 }), "{error}");
    }
}

#[test]
fn four_replicas_run_one_program() {
    for plugin in plugins() {
        let client = client_of(&plugin, 4);
        let program =
            client.compile(&add_program(DType::I32, "2x"), &CompileOptions::new().num_replicas(4)).unwrap();
        let inputs: Vec<Buffer> =
            (0..4).map(|d| client.upload_to(d, &[d as i32, 10], &[2]).unwrap()).collect();
        let arguments: Vec<Vec<&Buffer>> = inputs.iter().map(|buffer| vec![buffer, buffer]).collect();
        let outputs = program.run_sharded(&arguments).unwrap();
        for (d, output) in outputs.iter().enumerate() {
            assert_eq!(output[0].to_vec::<i32>().unwrap(), [2 * d as i32, 20]);
        }
        // Donation is one choice for all devices.
        let mixed = |d: usize| {
            let last = if d == 3 { Arg::Donate(inputs[d].clone()) } else { Arg::Keep(&inputs[d]) };
            vec![Arg::Keep(&inputs[d]), last]
        };
        let error = program.launch_sharded((0..4).map(mixed).collect()).unwrap_err();
        assert!(matches!(error, RuntimeError::DonationPattern { index: 1, device: 3 }), "{error}");
        let donate = |d: usize| {
            let values = client.upload_to(d, &[1i32, 1], &[2]).unwrap();
            vec![Arg::Donate(values), Arg::Keep(&inputs[d])]
        };
        let outputs =
            block_on(program.launch_sharded((0..4).map(donate).collect()).unwrap().into_future()).unwrap();
        assert_eq!(outputs[3][0].to_vec::<i32>().unwrap(), [4, 11]);
        // A replica has no share of the shape but all of it.
        let short: Vec<Buffer> = (0..4).map(|d| client.upload_to(d, &[1i32], &[1]).unwrap()).collect();
        let arguments: Vec<Vec<&Buffer>> = short.iter().map(|buffer| vec![buffer, buffer]).collect();
        let error = program.run_sharded(&arguments).unwrap_err();
        assert!(matches!(error, RuntimeError::ArgumentShape { index: 0, .. }), "{error}");
    }
}

#[test]
fn memory_statistics_name_temporaries() {
    for plugin in plugins() {
        let client = client_of(&plugin, 1);
        let text = square_program(128).replace(
            "return %d",
            "%e = stablehlo.dot_general %d, %d, contracting_dims = [1] x [0] : (tensor<128x128xf32>, tensor<128x128xf32>) \
             -> tensor<128x128xf32>\n  return %e",
        );
        let stats = client.compile(&text, &CompileOptions::new()).unwrap().memory_stats().unwrap();
        let matrix = 4 * 128 * 128;
        assert_eq!((stats.argument, stats.output, stats.alias), (matrix, matrix, 0));
        assert!(stats.temp >= matrix, "{stats:?}");
        eprintln!("{:?}: {stats:?}", plugin.api_version());
    }
}

fn disk_client(plugin: &Plugin, directory: &Path) -> Client {
    Client::new(plugin, ClientOptions::new().device_count(1).disk_cache(directory)).unwrap()
}

fn only_entry(directory: &Path) -> PathBuf {
    let mut entries: Vec<PathBuf> =
        directory.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

#[test]
fn disk_cache_serves_a_new_client() {
    let cache = tempfile::tempdir().unwrap();
    for plugin in plugins() {
        let directory = cache.path().join(format!("{:?}", plugin.api_version()));
        let client = disk_client(&plugin, &directory);
        add(&client);
        add(&client);
        let stats = client.cache_stats();
        assert_eq!((stats.compiles, stats.disk_writes, stats.memory_hits, stats.disk_hits), (1, 1, 1, 0));
        client.clear_memory_cache();
        add(&client);
        assert_eq!(client.cache_stats().disk_hits, 1);

        let client = disk_client(&plugin, &directory);
        let program = add(&client);
        let stats = client.cache_stats();
        assert_eq!((stats.compiles, stats.disk_hits, stats.disk_errors), (0, 1, 0));
        let buffer = six(&client);
        assert_eq!(
            program.run(&[&buffer, &buffer]).unwrap()[0].to_vec::<f32>().unwrap(),
            SIX.map(|x| 2.0 * x)
        );
        // Arguments are checked for a program from disk as well.
        assert!(matches!(program.run(&[&buffer]), Err(RuntimeError::ArgumentCount { .. })));

        // Other options are another entry.
        let flag = CompileOptions::new().env_option("xla_cpu_enable_fast_math", "False");
        client.compile(&add_program(DType::F32, "2x3x"), &flag).unwrap();
        assert_eq!(client.cache_stats().compiles, 1);
    }
}

#[test]
fn what_is_no_executable_is_not_loaded() {
    for plugin in plugins() {
        let client = client_of(&plugin, 1);
        let whole = add(&client).serialize().unwrap();
        for bytes in [&b"no executable"[..], &[], &whole[..whole.len() / 2]] {
            assert!(matches!(client.load(bytes, ""), Err(RuntimeError::Plugin(_))));
        }
        assert!(client.load(&whole, "").is_ok());
    }
}

#[test]
fn damaged_cache_entries_are_misses() {
    let cache = tempfile::tempdir().unwrap();
    let plugin = plugin();
    add(&disk_client(&plugin, cache.path()));
    let entry = only_entry(cache.path());
    let whole = std::fs::read(&entry).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let cut = whole[..whole.len() / 2].to_vec();
    for damaged in [flipped, cut, whole[..30].to_vec(), Vec::new(), b"something else".to_vec()] {
        std::fs::write(&entry, damaged).unwrap();
        let client = disk_client(&plugin, cache.path());
        let program = add(&client);
        let stats = client.cache_stats();
        assert_eq!((stats.compiles, stats.disk_hits, stats.disk_errors, stats.disk_writes), (1, 0, 1, 1));
        let buffer = six(&client);
        program.run(&[&buffer, &buffer]).unwrap();
        assert_eq!(only_entry(cache.path()), entry, "the entry was replaced and no partial file is left");
    }
    // A folder that cannot be written to costs nothing but the entry.
    let file = cache.path().join("file");
    std::fs::write(&file, "").unwrap();
    let client = disk_client(&plugin, &file);
    add(&client);
    assert!(client.cache_stats().disk_errors >= 1);
}

#[test]
fn threads_compile_once_and_share_an_executable() {
    for plugin in plugins() {
        let client = client_of(&plugin, 1);
        let buffer = six(&client);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let program = add(&client);
                    for _ in 0..50 {
                        let outputs = program.run(&[&buffer, &buffer]).unwrap();
                        assert_eq!(outputs[0].to_vec::<f32>().unwrap()[5], 12.0);
                    }
                });
            }
        });
        let stats = client.cache_stats();
        assert_eq!((stats.compiles, stats.memory_hits), (1, 3));
    }
    let uncached = Client::new(&plugin(), ClientOptions::new().device_count(1).memory_cache(false)).unwrap();
    add(&uncached);
    add(&uncached);
    assert_eq!(uncached.cache_stats().compiles, 2);
}

#[test]
fn cpu_plugins_have_no_topologies() {
    for plugin in plugins() {
        let error = plugin.topology("v6e:2x2").unwrap_err();
        assert!(
            matches!(&error, RuntimeError::Plugin(error) if error.call() == "PJRT_TopologyDescription_Create"),
            "{error}"
        );
    }
}

#[test]
fn discovery_keeps_its_order_and_reports() {
    let real = plugin().path().to_path_buf();
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.so");
    std::fs::write(&text, "text").unwrap();

    let options = DiscoveryOptions::empty()
        .variable("PJRT_NAMES_AND_LIBRARY_PATHS", format!("a:{},b:/no/such/file.so", text.display()))
        .variable("TPU_LIBRARY_PATH", "/no/such/libtpu.so")
        .variable("PJRT_PLUGIN_LIBRARY_PATH", &real);
    let (found, report) = Plugin::discover_with_report(&options);
    assert_eq!(found, Some(plugin()));
    let sources: Vec<Source> = report.candidates.iter().map(|candidate| candidate.source).collect();
    assert_eq!(
        sources,
        [
            Source::NamesAndLibraryPaths,
            Source::NamesAndLibraryPaths,
            Source::TpuLibraryPath,
            Source::PluginLibraryPath
        ]
    );
    assert!(matches!(report.candidates[3].outcome, Outcome::Loaded));
    assert_eq!(report.to_string().lines().count(), 4, "{report}");

    // An explicit path is the only candidate.
    let error = Plugin::discover(&options.explicit(&text)).unwrap_err();
    let RuntimeError::NoPlugin { report } = &error else { panic!("{error}") };
    assert_eq!(report.candidates.len(), 1);
    assert!(error.to_string().contains("explicit path") && error.to_string().contains("text.so"), "{error}");

    let error = Plugin::discover(&DiscoveryOptions::empty().directory(dir.path())).unwrap_err();
    assert!(error.to_string().contains("make tools"), "{error}");
}

#[test]
fn discovery_finds_the_tool_folder_and_python_packages() {
    let real = plugin().path().to_path_buf();
    let dir = tempfile::tempdir().unwrap();
    let install = |folder: &Path| {
        let package = folder.join("lammps_jax_pjrt_cpu");
        std::fs::create_dir_all(&package).unwrap();
        std::os::unix::fs::symlink(&real, package.join("pjrt_c_api_cpu_plugin.so")).unwrap();
    };
    install(&dir.path().join(".tools/py-base"));
    let below = dir.path().join("crates/inner");
    std::fs::create_dir_all(&below).unwrap();
    let (found, report) = Plugin::discover_with_report(&DiscoveryOptions::empty().directory(below));
    assert_eq!(found, Some(plugin()));
    assert_eq!(report.candidates[0].source, Source::ToolFolder);

    let environment = dir.path().join("venv");
    let site = environment.join("lib/python3.12/site-packages");
    install(&site);
    std::fs::create_dir_all(site.join("libtpu")).unwrap();
    std::fs::write(site.join("libtpu/libtpu.so"), "no library").unwrap();
    let (found, report) =
        Plugin::discover_with_report(&DiscoveryOptions::empty().variable("VIRTUAL_ENV", &environment));
    assert_eq!(found, Some(plugin()));
    // Passed over without a TPU; tried, and refused, with one.
    assert!(!matches!(report.candidates[0].outcome, Outcome::Loaded), "{report}");
    assert!(report.candidates.iter().all(|candidate| candidate.source == Source::PythonPackage), "{report}");
}

#[test]
fn everything_may_cross_threads() {
    fn check<T: Send + Sync>() {}
    check::<Plugin>();
    check::<Client>();
    check::<Buffer>();
    check::<Executable>();
    check::<tpu_rpa::runtime::Topology>();
    check::<tpu_rpa::runtime::Execution>();
    check::<tpu_rpa::runtime::Completion>();
    check::<RuntimeError>();
}
