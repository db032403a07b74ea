//! Which kernel a client runs, and where its executable comes from.
#![cfg(feature = "runtime")]

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::ThreadId;

use tpu_rpa::batch::{Group, KvSlots, Planner};
use tpu_rpa::kernels::{self, Kernel, Target, TpuKind, stablehlo_function};
use tpu_rpa::runtime::{
    CacheStats, Client, ClientOptions, CompileOptions, DiscoveryOptions, Plugin, Precompiled,
};
use tpu_rpa::spec::{DType, KvWriteSpec};

/// The CPU plugin of the tool folder, also where the environment names a libtpu.
fn plugin() -> Plugin {
    Plugin::discover(&DiscoveryOptions::empty().directory(env!("CARGO_MANIFEST_DIR")))
        .unwrap_or_else(|e| panic!("no PJRT plugin, run `make tools`: {e}"))
}

fn client(options: ClientOptions) -> Client {
    log(); // before anything is logged
    Client::new(&plugin(), options.device_count(1)).unwrap()
}

fn kernel() -> Kernel {
    Kernel::KvWrite { spec: KvWriteSpec::new(2, 64, 16, DType::F32).unwrap(), tokens: 16, pool_pages: 2 }
}

/// The kernel's executable, as the CPU client itself compiles it.
fn precompiled() -> Precompiled {
    let client = client(ClientOptions::new().precompiled(Vec::new()));
    let module = stablehlo_function("kv_write", &kernel(), Target::Portable).unwrap().module();
    let executable = client.compile(&module, &CompileOptions::new()).unwrap();
    Precompiled {
        kernel: kernel().to_string().into(),
        topology: "this machine".into(),
        device_kind: client.devices()[0].kind().to_owned().into(),
        compiler: client.platform_version().to_owned().into(),
        source: Precompiled::source_hash(&module).into(),
        bytes: executable.serialize().unwrap().into(),
    }
}

/// What `kernel` did on a new client: of these executables and this disk cache. The write must be right.
fn stats(precompiled: Vec<Precompiled>, disk: Option<&Path>) -> CacheStats {
    let mut options = ClientOptions::new().precompiled(precompiled);
    if let Some(folder) = disk {
        options = options.disk_cache(folder);
    }
    let client = client(options);
    let program = client.kernel(&kernel()).unwrap();
    let rows = |first: f32| {
        let values: Vec<f32> = (0..16 * 2 * 64).map(|i| first + i as f32).collect();
        client.upload(&values, &[16, 2, 64]).unwrap()
    };
    let pages = client.upload(&vec![0f32; 2 * 2 * 2 * 16 * 64], &[2, 2, 2, 16, 64]).unwrap();
    let mut planner = Planner::new(16, 2, client.target().tiling(16).unwrap()).unwrap();
    let plan = planner.plan(16, &[Group { cu_seg_lens: &[0, 16], ..Group::default() }]).unwrap();
    let mut slots = [-1i32; 16];
    slots[3] = 17; // page 1, offset 1
    let slots = KvSlots::new(&planner, &plan, &slots).unwrap();
    let slots = client.upload(slots.words(&plan).unwrap(), &[17]).unwrap();
    let first_page = client.upload(&[0i32], &[]).unwrap();
    let out = program.run(&[&rows(1e4), &rows(2e4), &pages, &slots, &first_page]).unwrap();
    let out = out[0].to_vec::<f32>().unwrap();
    // Page 1 (of K and V, 2 heads each), K, head 1, offset 1.
    let at = ((2 * 2 + 1) * 16 + 1) * 64;
    assert_eq!(out[at], 1e4 + (3 * 2 * 64 + 64) as f32);
    assert_eq!(out.iter().filter(|&&x| x != 0.0).count(), 2 * 2 * 64);
    client.cache_stats()
}

#[test]
fn a_cpu_client_runs_the_portable_kernels() {
    let client = client(ClientOptions::new());
    assert_eq!(client.target(), Target::Portable);
    for variant in kernels::variants().unwrap() {
        let kernel = variant.kernel(client.target()).unwrap();
        let function = stablehlo_function(kernel.name(), &kernel, client.target()).unwrap();
        assert!(!function.text().contains("tpu_custom_call"), "{}", variant.id);
        if variant.mosaic {
            let kernel = variant.kernel(Target::Tpu).unwrap();
            let function = stablehlo_function(kernel.name(), &kernel, Target::Tpu).unwrap();
            assert!(function.text().contains("@tpu_custom_call"), "{}", variant.id);
        }
    }
    client.kernel(&kernel()).unwrap();
    client.kernel(&kernel()).unwrap();
    let stats = client.cache_stats();
    assert_eq!((stats.compiles, stats.memory_hits, stats.precompiled_refusals), (1, 1, 0), "{stats:?}");
}

#[test]
fn a_precompiled_executable_is_taken() {
    let stats = stats(vec![precompiled()], None);
    assert_eq!((stats.precompiled_hits, stats.precompiled_refusals, stats.compiles), (1, 0, 0), "{stats:?}");
}

/// Of another compiler, of another source, or damaged: the disk cache or the compiler takes over.
#[test]
fn a_precompiled_executable_that_does_not_fit_is_refused() {
    let good = precompiled();
    let unfit = [
        Precompiled { compiler: "TFRT TPU v6 lite\nBuilt on another day".into(), ..good.clone() },
        Precompiled { source: Precompiled::source_hash("another text").into(), ..good.clone() },
        Precompiled { bytes: good.bytes[..good.bytes.len() / 2].to_vec().into(), ..good.clone() },
    ];
    for unfit in unfit {
        let folder = tempfile::tempdir().unwrap();
        let first = stats(vec![unfit.clone()], Some(folder.path()));
        let found = (first.precompiled_hits, first.precompiled_refusals, first.disk_hits, first.compiles);
        assert_eq!(found, (0, 1, 0, 1), "{unfit:?}: {first:?}");
        assert_eq!(first.disk_writes, 1);
        let second = stats(vec![unfit.clone()], Some(folder.path()));
        let found = (second.precompiled_hits, second.precompiled_refusals, second.disk_hits, second.compiles);
        assert_eq!(found, (0, 1, 1, 0), "{unfit:?}: {second:?}");
        let third = stats(vec![unfit.clone(), good.clone()], Some(folder.path()));
        let found = (third.precompiled_hits, third.precompiled_refusals, third.disk_hits, third.compiles);
        assert_eq!(found, (1, 1, 0, 0), "{unfit:?}: {third:?}");
    }
}

/// What the library told `tracing`, a line an event, with the thread that it happened in: each test has one.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(ThreadId, String)>>>);

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        tracing::subscriber::set_global_default(log.clone()).unwrap();
        log
    })
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("tpu_rpa::runtime")
    }
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = event.metadata().level().to_string();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            line += &format!(" {field}={value:?}");
        });
        self.0.lock().unwrap().push((std::thread::current().id(), line));
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn every_rung_is_logged() {
    let good = precompiled();
    let stale = Precompiled { source: Precompiled::source_hash("another text").into(), ..good.clone() };
    let folder = tempfile::tempdir().unwrap();
    stats(vec![stale], Some(folder.path()));
    stats(Vec::new(), Some(folder.path()));
    stats(vec![good], None);
    let lines = log().0.lock().unwrap().clone();
    let here = std::thread::current().id();
    let lines: Vec<String> = lines.into_iter().filter(|l| l.0 == here).map(|l| l.1).collect();
    let found = |parts: &[&str]| lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    for parts in [
        &["WARN", "not used", "kv_write kv_heads=2", "it was compiled from source"][..],
        &["INFO", "cache=\"miss\""],
        &["INFO", "cache=\"disk hit\""],
        &["INFO", "cache=\"precompiled hit\"", "kv_write kv_heads=2"],
    ] {
        assert!(found(parts), "{parts:?} in {lines:#?}");
    }
}

/// Executables for other kernels and other devices are no candidates.
#[test]
fn a_precompiled_executable_of_something_else_is_not_asked_for() {
    let good = precompiled();
    let others = vec![
        Precompiled { kernel: "kv_write of other shape".into(), ..good.clone() },
        Precompiled { device_kind: "TPU v6 lite".into(), ..good },
    ];
    let stats = stats(others, None);
    assert_eq!((stats.precompiled_hits, stats.precompiled_refusals, stats.compiles), (0, 0, 1), "{stats:?}");
}

#[test]
fn a_tpu_topology_gets_the_mosaic_kernels() {
    let Some(plugin) = common::libtpu::libtpu() else { return };
    for kind in TpuKind::ALL {
        let topology = plugin.topology(kind.topology()).unwrap();
        assert_eq!(topology.target().unwrap(), Target::Tpu);
        assert!(topology.device_kind().unwrap().starts_with("TPU"));
        let function = stablehlo_function("kv_write", &kernel(), topology.target().unwrap()).unwrap();
        assert!(function.text().contains("@tpu_custom_call"));
        assert!(!topology.compile_aot(&function.module(), &CompileOptions::new()).unwrap().bytes.is_empty());
    }
}

/// What the library was built with under `aot` is what a TPU client of this libtpu would look for.
#[test]
fn embedded_executables_are_of_the_declared_variants() {
    let embedded = Precompiled::embedded();
    if embedded.is_empty() {
        eprintln!("SKIPPED: built without executables (`make aot` builds with them)");
        return;
    }
    let declared: Vec<_> = kernels::variants().unwrap().into_iter().filter(|v| v.mosaic).collect();
    assert_eq!(embedded.len(), declared.len() * TpuKind::ALL.len());
    for variant in &declared {
        for kind in TpuKind::ALL {
            let kernel = variant.tpu_kernel(kind).unwrap();
            let module = stablehlo_function(kernel.name(), &kernel, Target::Tpu).unwrap().module();
            let found: Vec<_> = embedded
                .iter()
                .filter(|p| p.kernel == kernel.to_string() && p.topology == kind.topology())
                .collect();
            assert_eq!(found.len(), 1, "{} for {kind}", variant.id);
            assert_eq!(found[0].source, Precompiled::source_hash(&module), "{} for {kind}", variant.id);
        }
    }
    let Some(plugin) = common::libtpu::libtpu() else { return };
    for kind in TpuKind::ALL {
        let topology = plugin.topology(kind.topology()).unwrap();
        for p in embedded.iter().filter(|p| p.topology == kind.topology()) {
            assert_eq!(p.compiler, topology.platform_version().unwrap());
            assert_eq!(p.device_kind, topology.device_kind().unwrap());
        }
    }
}
