//! What plugins offer for profiling: CPU plugins nothing, libtpu a profiler that needs a TPU.

use tpu_rpa::runtime::{Client, ClientOptions, DiscoveryOptions, Plugin, Profiler, RuntimeError};

#[test]
fn a_plugin_without_a_profiler_says_what_it_has() {
    let cpu = Plugin::discover(&DiscoveryOptions::empty().directory(env!("CARGO_MANIFEST_DIR")));
    let plugin = cpu.expect("`make tools` fetched a CPU plugin");
    let found = plugin.extensions();
    println!("{plugin:?}: {found:?}");
    assert!(!found.is_empty() && found.iter().all(|extension| extension.name() != Some("Profiler")));
    match Profiler::start(&plugin) {
        Err(error @ RuntimeError::MissingExtension { .. }) => {
            let text = error.to_string();
            assert!(text.contains("no Profiler extension; it has: ") && text.contains("FFI"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn libtpu_has_a_profiler_that_records_a_tpu_or_says_that_there_is_none() {
    let Some(plugin) = common::libtpu::libtpu() else { return };
    let names: Vec<String> = plugin.extensions().iter().map(ToString::to_string).collect();
    println!("{plugin:?}: {}", names.join(", "));
    assert!(names.iter().any(|name| name == "Profiler"), "{names:?}");
    let client = Client::new(&plugin, ClientOptions::new());
    // Twice: the failed session of the first time is gone.
    for _ in 0..2 {
        match (Profiler::start(&plugin), &client) {
            (Ok(profiler), client) => {
                let space = profiler.stop().expect("a trace");
                // Without a TPU it records the host's part, once a client was tried to be made.
                let clock = bench_score::xplane::Clock { epoch: 0, started: 0 };
                let events = bench_score::xplane::trace_events(&space, clock, 0).expect("a space");
                println!("{} bytes, {} events, client: {}", space.len(), events.len(), client.is_ok());
                assert!(!space.is_empty());
            }
            (Err(RuntimeError::Plugin(error)), Err(_)) => {
                println!("{error}");
                assert_eq!(error.call(), "PLUGIN_Profiler_Start");
                assert!(!error.message().is_empty());
            }
            (other, client) => panic!("{other:?} with {client:?}"),
        }
    }
}
