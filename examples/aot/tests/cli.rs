//! The `aot` program as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

fn run(libtpu: &Path, out: &Path, only: &str) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aot"));
    command.arg("--libtpu").arg(libtpu).arg("--out").arg(out).args(["--only", only]);
    let output = command.env("RUST_BACKTRACE", "1").output().expect("the program starts");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!words.contains("panicked"), "{words}");
    (output, words)
}

#[test]
fn what_cannot_be_compiled_with_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (output, words) = run(Path::new("/no/such/libtpu.so"), folder.path(), "");
    assert!(!output.status.success());
    assert!(words.contains("no libtpu at /no/such/libtpu.so: `make aot` fetches it"), "{words}");

    let text = folder.path().join("libtpu.so");
    std::fs::write(&text, "no library").unwrap();
    let (output, words) = run(&text, folder.path(), "");
    assert!(!output.status.success());
    assert!(words.contains("ended with exit status: 1") && words.contains("not a loadable"), "{words}");
}

#[test]
fn a_variant_is_compiled_once_for_every_topology() {
    let Some(plugin) = common::libtpu::libtpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (output, words) = run(plugin.path(), folder.path(), "no such variant");
    assert!(!output.status.success() && words.contains("no declared Mosaic variant"), "{words}");

    for round in 0..2 {
        let (output, words) = run(plugin.path(), folder.path(), "kv_write/smollm2");
        assert!(output.status.success(), "{words}");
        let table = String::from_utf8(output.stdout).unwrap();
        for topology in ["v5e:2x2", "v6e:2x2", "tpu7x:2x2x1"] {
            let line = table.lines().find(|l| l.contains("kv_write/smollm2") && l.contains(topology));
            let line = line.unwrap_or_else(|| panic!("{topology}: {table}"));
            // variant, topology, seconds, slots, executable, VMEM declared, VMEM given, spills
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            assert!(cells[4].parse::<u64>().unwrap() > 100, "{line}");
            assert!(cells[5].parse::<u64>().unwrap() > 100, "{line}");
            assert_eq!((cells[6], cells[7], cells[8]), ("320", "320", "0/0"), "{line}");
        }
        assert_eq!(words.matches("compiling").count(), if round == 0 { 3 } else { 0 }, "{words}");
    }
    let manifest = std::fs::read_to_string(folder.path().join("manifest.toml")).unwrap();
    assert_eq!(manifest.matches("[[executable]]").count(), 3);
}
