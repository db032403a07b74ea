//! Executables that `make aot` compiled, into the library.

use std::path::Path;

use serde::Deserialize;

use crate::check::MosaicForm;
use crate::problem::Result;

/// Names the folder.
const FOLDER: &str = "TPU_RPA_AOT";

#[derive(Deserialize)]
struct Manifest {
    executable: Vec<Compiled>,
}

#[derive(Deserialize)]
struct Compiled {
    variant: String,
    kernel: String,
    topology: String,
    device_kind: String,
    compiler: String,
    source: String,
    file: String,
}

/// The list of executables as Rust. Refuses one that the present kernel texts would not give.
pub(crate) fn embedded(declared: &[MosaicForm]) -> Result<String> {
    println!("cargo::rerun-if-env-changed={FOLDER}");
    let Some(folder) = std::env::var_os(FOLDER) else {
        println!("cargo::warning=feature aot: {FOLDER} is not set, so no executable is embedded");
        return list("");
    };
    let folder = std::path::absolute(&folder).map_err(|e| format!("{FOLDER}: {e}"))?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let path = folder.join("manifest.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{FOLDER}: {}: {e}", path.display()))?;
    let manifest: Manifest =
        toml::from_str(&text).map_err(|e| format!("{FOLDER}: {}: {e}", path.display()))?;
    let mut entries = String::new();
    for c in &manifest.executable {
        entries += &entry(&folder, c, declared)
            .map_err(|e| format!("{FOLDER}: {} for {}: {e}; run `make aot`", c.variant, c.topology))?;
    }
    list(&entries)
}

fn entry(folder: &Path, c: &Compiled, declared: &[MosaicForm]) -> Result<String> {
    let MosaicForm { kernel, function, .. } = declared
        .iter()
        .find(|form| form.variant == c.variant && form.kind.topology() == c.topology)
        .ok_or("no manifest declares it")?;
    let file = folder.join(&c.file);
    let source = file.with_extension("mlir");
    let text = std::fs::read_to_string(&source).map_err(|e| format!("{}: {e}", source.display()))?;
    if kernel.to_string() != c.kernel || text != function.module() {
        return Err("it was compiled from another text than the kernel has now".to_owned());
    }
    if !file.is_file() {
        return Err(format!("{} is missing", file.display()));
    }
    let text = |name: &str, value: &str| format!("{name}: std::borrow::Cow::Borrowed({value:?}), ");
    Ok(format!(
        "    Precompiled {{ {}{}{}{}{}bytes: std::borrow::Cow::Borrowed(include_bytes!({:?})) }},\n",
        text("kernel", &c.kernel),
        text("topology", &c.topology),
        text("device_kind", &c.device_kind),
        text("compiler", &c.compiler),
        text("source", &c.source),
        file.to_str().ok_or("the folder's name is not UTF-8")?,
    ))
}

fn list(entries: &str) -> Result<String> {
    Ok(format!("pub(super) static EMBEDDED: &[Precompiled] = &[\n{entries}];\n"))
}
