//! The `schedule` program as a developer runs it. What compiles needs libtpu, no TPU.

#[path = "common/libtpu.rs"]
mod libtpu;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ndarray::Array1;
use ndarray_npy::NpzReader;

/// The example that `cargo test` and `cargo build --examples` build next to this test.
fn run(arguments: &[&str]) -> Output {
    let test = std::env::current_exe().expect("a test has a path");
    let program = test.ancestors().nth(2).expect("tests lie in <profile>/deps").join("examples/schedule");
    assert!(
        program.is_file(),
        "{} is missing: cargo build --release --all-features --examples",
        program.display()
    );
    let mut command = Command::new(program);
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env("RUST_BACKTRACE", "0");
    command.output().expect("the program starts")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Within 2 % of the committed figures; `make ratchet` recomputes all.
#[test]
fn the_committed_figures_hold() {
    if libtpu::path().is_none() {
        return;
    }
    let output = run(&["ratchet", "--fast"]);
    println!("{}", text(&output));
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_figure_that_became_worse_fails_and_is_named() {
    if libtpu::path().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let table =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/replayed.toml")).unwrap();
    let mut table: toml::Table = table.parse().unwrap();
    let cases = table["case"].as_array_mut().unwrap();
    cases.retain(|c| c["workload"].as_str() == Some("W3"));
    let cycles = &mut cases[0]["figures"]["cycles"];
    *cycles = toml::Value::Integer(cycles.as_integer().unwrap() * 95 / 100);
    let path = folder.path().join("table.toml");
    std::fs::write(&path, table.to_string()).unwrap();
    let output = run(&["ratchet", "--fast", "--table", path.to_str().unwrap()]);
    assert!(
        !output.status.success() && text(&output).contains("W3 v6e 16/8x128 256/512/128: cycles"),
        "{}",
        text(&output)
    );
}

#[test]
fn an_exported_kernel_has_its_operands_by_index() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("w3");
    let output = run(&["export", "--workload", "W3", "--device", "v6e", "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    let module = std::fs::read_to_string(out.join("module.mlir")).unwrap();
    assert!(module.contains("stablehlo.custom_call @tpu_custom_call(%arg0, %arg1,"));
    let file = std::fs::File::open(PathBuf::from(&out).join("operands.npz")).unwrap();
    let mut npz = NpzReader::new(file).unwrap();
    let header: Array1<i32> = npz.by_name("arg0").unwrap();
    assert_eq!(header[0], 2048, "new tokens of the batch");
    let tables: Array1<i32> = npz.by_name("arg1").unwrap();
    assert!(module.contains(&format!("%arg1: tensor<{}xi32>", tables.len())));
}

#[test]
fn mistakes_are_named() {
    for (arguments, named) in [
        (&["replay", "--workload", "W9"][..], "W1, W1c, W2"),
        (&["export", "--workload", "W1", "--device", "v9", "--out", "x"], "v5e, v6e or v7x"),
        (&["export", "--workload", "W1", "--tiles", "256/512", "--out", "x"], "whole numbers"),
        (&["export", "--workload", "W1", "--tiles", "250/512/128", "--out", "x"], "q_tile"),
    ] {
        let output = run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text(&output).contains(named) && !text(&output).contains("panicked"), "{}", text(&output));
    }
}

/// Candidates, choices and tables agree; one that the rules do not choose is named. Compiles nothing.
#[test]
fn the_tables_of_block_sizes_are_what_the_rules_choose() {
    let output = run(&["tune", "--check"]);
    assert!(output.status.success(), "{}", text(&output));
    let folder = tempfile::tempdir().unwrap();
    let table =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/tables/v6e.toml"));
    let mut table: toml::Table = table.unwrap().parse().unwrap();
    let candidates = table["entry"][0]["candidate"].as_array_mut().unwrap();
    let slowest = candidates.iter_mut().max_by_key(|c| c.get("cycles").map(|c| c.as_integer())).unwrap();
    slowest["cycles"] = toml::Value::Integer(1);
    std::fs::write(folder.path().join("v6e.toml"), table.to_string()).unwrap();
    let output = run(&["tune", "--check", "--device", "v6e", "--tables", folder.path().to_str().unwrap()]);
    assert!(!output.status.success() && text(&output).contains("packed 16/8x128"), "{}", text(&output));
}
