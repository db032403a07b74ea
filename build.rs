//! Renders and verifies every declared kernel variant, computes what its Mosaic form declares of each device kind's
//! memories, and generates the registry. Offline: no network, no plugin, no TPU.
//!
//! It shares the library's modules that make and check kernel text (the cfg `in_library` marks what it cannot use), so
//! a build is refused for just what the library and the emulator would refuse.

use std::path::Path;
use std::process::ExitCode;

#[path = "src/batch/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod batch;
#[path = "src/emulator/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod emulator;
#[path = "src/kernels/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod kernels;
#[path = "src/spec/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod spec;

#[path = "build/aot.rs"]
mod aot;
#[path = "build/check.rs"]
mod check;
#[path = "build/manifest.rs"]
mod manifest;
#[path = "build/problem.rs"]
mod problem;
#[path = "build/registry.rs"]
mod registry;
#[path = "build/tables.rs"]
mod tables;
#[path = "build/variants.rs"]
mod variants;

use problem::{Result, fail};

fn main() -> ExitCode {
    println!("cargo::rustc-cfg=in_library");
    for shared in ["kernels", "src/batch", "src/emulator", "src/kernels", "src/spec"] {
        println!("cargo::rerun-if-changed={shared}");
    }
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(problem),
    }
}

/// Writes what the library includes.
fn generate() -> Result<()> {
    let variants = variants::variants()?;
    let mut forms = Vec::new();
    for variant in &variants {
        forms.extend(check::check(variant)?);
    }
    write("tables.rs", &tables::text())?;
    write("registry.rs", &registry::text(&variants))?;
    if cfg!(feature = "aot") {
        write("embedded.rs", &aot::embedded(&forms)?)?;
    }
    Ok(())
}

fn write(file: &str, text: &str) -> Result<()> {
    let out = std::env::var("OUT_DIR").map_err(|e| format!("OUT_DIR: {e}"))?;
    std::fs::write(Path::new(&out).join(file), text).map_err(|e| format!("{file}: {e}"))
}
