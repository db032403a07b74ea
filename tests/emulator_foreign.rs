//! Kernels that JAX's Pallas lowers to Mosaic text, executed by the emulator and compared with JAX's own interpret
//! mode: an independent check of syntax and semantics. Skipped where there is no Python with JAX (`.ci/tools.sh jax`).
#![cfg(feature = "emulator")]

use half::bf16;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tpu_rpa::emulator::{Emulator, FaultPolicy, Operands, RunOptions, Tensor};

/// A Python that can import JAX: `TPU_RPA_JAX_PYTHON`, or `python3` with the project-local packages.
fn python() -> Option<Command> {
    let mut command = match std::env::var_os("TPU_RPA_JAX_PYTHON") {
        Some(path) => Command::new(path),
        None => Command::new("python3"),
    };
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/py-jax");
    if packages.is_dir() && std::env::var_os("TPU_RPA_JAX_PYTHON").is_none() {
        command.env("PYTHONPATH", packages);
    }
    command.env("JAX_PLATFORMS", "cpu");
    let mut probe = Command::new(command.get_program());
    probe
        .envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))))
        .args(["-c", "import jax, jaxlib.mosaic.python.tpu"]);
    let works = probe.output().is_ok_and(|o| o.status.success());
    works.then_some(command)
}

fn tensor(folder: &Path, entry: &Value) -> Tensor {
    let bytes = std::fs::read(folder.join(entry["file"].as_str().unwrap())).unwrap();
    let shape: Vec<usize> =
        entry["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
    match entry["dtype"].as_str().unwrap() {
        "f32" => Tensor::new(
            &shape,
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        ),
        "i32" => Tensor::new(
            &shape,
            bytes.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect(),
        ),
        "bf16" => Tensor::new(
            &shape,
            bytes.chunks_exact(2).map(|b| bf16::from_le_bytes(b.try_into().unwrap())).collect(),
        ),
        "i8" => Tensor::new(&shape, bytes.iter().map(|&b| b as i8).collect()),
        other => panic!("dtype {other}"),
    }
    .unwrap()
}

/// Share of an expected result that is finite: NaN agrees with NaN, so too many would hide a fault.
fn finite(want: &Tensor) -> f64 {
    let want = want.to_f32();
    want.iter().filter(|w| w.is_finite()).count() as f64 / want.len() as f64
}

/// Largest difference, relative to the largest expected value of the result.
fn error(got: &Tensor, want: &Tensor) -> f64 {
    let (got, want) = (got.to_f32(), want.to_f32());
    let scale = want.iter().fold(1e-30f64, |m, &w| if w.is_finite() { m.max(f64::from(w.abs())) } else { m });
    let differences = got.iter().zip(&want).map(|(&g, &w)| {
        if g.to_bits() == w.to_bits() || (g.is_nan() && w.is_nan()) || g == w {
            0.0
        } else {
            f64::from((g - w).abs()) / scale
        }
    });
    differences.fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) })
}

/// The bounds of the call's grid where the text leaves them open.
fn dynamic_bounds(text: &str, grid: &[Value]) -> Vec<i64> {
    let Some((_, rest)) = text.split_once("iteration_bounds = array<i64: ") else { return Vec::new() };
    let bounds = rest.split('>').next().unwrap_or_default().split(", ");
    bounds.zip(grid).filter(|(b, _)| *b == i64::MIN.to_string()).map(|(_, g)| g.as_i64().unwrap()).collect()
}

fn check(folder: &Path, case: &Value) -> Result<f64, String> {
    let name = case["name"].as_str().unwrap();
    let text = std::fs::read_to_string(folder.join(format!("{name}.mlir"))).unwrap();
    let emulator = Emulator::new(&text).map_err(|e| e.to_string())?;
    // JAX knows the compiler's rules: what it lowers breaks none that the emulator checks.
    if let Some(finding) = emulator.check_alignment().first() {
        return Err(finding.to_string());
    }
    let list = |key: &str| case[key].as_array().unwrap().clone();
    let inputs: Vec<Tensor> = list("inputs").iter().map(|e| tensor(folder, e)).collect();
    let expected: Vec<Tensor> = list("outputs").iter().map(|e| tensor(folder, e)).collect();
    let mut operands = inputs.into_iter().fold(Operands::new(), Operands::input);
    for e in &expected {
        operands = operands.output(e.element_type(), e.shape());
    }
    for alias in list("aliases") {
        operands = operands.alias(alias[0].as_u64().unwrap() as usize, alias[1].as_u64().unwrap() as usize);
    }
    operands = operands.dynamic_grid(&dynamic_bounds(&text, &list("grid")));
    let expected_faults: BTreeSet<String> =
        list("faults").iter().map(|f| f.as_str().unwrap().to_owned()).collect();
    let policy = if expected_faults.is_empty() { FaultPolicy::Stop } else { FaultPolicy::Record };
    let options = RunOptions::default().faults(policy);
    let outcome = emulator.run_all_policies(&operands, &options).map_err(|e| e.to_string())?;
    let kinds: BTreeSet<String> = outcome.report.faults.iter().map(|f| f.kind.to_string()).collect();
    if kinds != expected_faults {
        return Err(format!("faults {:?}", outcome.report.faults));
    }
    if let Some(i) = expected.iter().position(|w| finite(w) < 0.9) {
        return Err(format!(
            "result {i} is {:.0} % finite in JAX: nothing to compare",
            finite(&expected[i]) * 100.0
        ));
    }
    let errors = outcome.outputs.iter().zip(&expected).map(|(g, w)| error(g, w));
    let worst = errors.fold(0.0, f64::max);
    let tolerance = case["tolerance"].as_f64().unwrap();
    if worst <= tolerance { Ok(worst) } else { Err(format!("error {worst:.2e} is above {tolerance:.0e}")) }
}

#[test]
fn kernels_lowered_by_jax_agree_with_its_interpret_mode() {
    let Some(mut python) = python() else {
        // Past the test harness, which keeps the output of passing tests to itself.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: no Python with JAX here; '.ci/tools.sh jax' fetches it");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "foreign", "kernels.py"].iter().collect();
    let output = python.arg(script).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("manifest.json")).unwrap()).unwrap();
    for skipped in manifest["skipped"].as_array().unwrap() {
        eprintln!("skipped by JAX {}: {} ({})", manifest["jax"], skipped["name"], skipped["reason"]);
    }
    let cases = manifest["cases"].as_array().unwrap();
    let mut failures = Vec::new();
    for case in cases {
        match check(folder.path(), case) {
            Ok(worst) => eprintln!("{}: error {worst:.1e}", case["name"]),
            Err(message) => failures.push(format!("{}: {message}", case["name"])),
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} kernels disagree:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    assert!(cases.len() >= 15, "JAX lowered only {} kernels", cases.len());
}
