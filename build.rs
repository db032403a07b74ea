//! Renders and verifies every declared kernel variant, computes what its Mosaic form declares of each device kind's
//! memories, and generates the registry. Offline: no network, no plugin, no TPU.
//!
//! It shares the library's modules that make and check kernel text (the cfg `in_library` marks what it cannot use), so
//! a build is refused for just what the library and the emulator would refuse.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;

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

/// Stands for the registry that this program generates.
mod registry {
    use super::{LazyLock, kernels::Blocks, kernels::TunedEntry};

    pub(crate) static BLOCKS: LazyLock<Blocks> =
        LazyLock::new(|| super::blocks().unwrap_or_else(super::fail));
    pub(crate) static TUNED: LazyLock<Vec<TunedEntry>> =
        LazyLock::new(|| super::tables::entries().unwrap_or_else(super::fail));
}

use emulator::Emulator;
use kernels::{Blocks, Function, Kernel, Target, Tiles, TpuKind, Variant, VariantShape, Workload, params};
use spec::{AttentionSpec, DType, KvWriteSpec, LabelLogprobsSpec, LabelSet};

type Result<T> = std::result::Result<T, String>;

/// A kernel's `manifest.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest<P, B = ()> {
    kernel: String,
    #[serde(rename = "summary")]
    _summary: String,
    portable: Option<B>,
    tpu: Option<B>,
    variant: Vec<Declared<P>>,
}

#[derive(Deserialize)]
struct Declared<P> {
    id: String,
    #[serde(default)]
    mosaic: bool,
    #[serde(default)]
    workload: Workload,
    #[serde(flatten)]
    params: P,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VocabBlock {
    vocab_block: usize,
}

type AttentionManifest = Manifest<params::Attention, Tiles>;
type LabelsManifest = Manifest<params::Labels, VocabBlock>;

fn main() -> ExitCode {
    println!("cargo::rustc-cfg=in_library");
    for shared in ["kernels", "src/batch", "src/emulator", "src/kernels", "src/spec"] {
        println!("cargo::rerun-if-changed={shared}");
    }
    match registry() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(problem),
    }
}

/// Ends the build with a message.
fn fail<T>(problem: String) -> T {
    eprintln!("kernels: {problem}");
    std::process::exit(1)
}

/// Declared variants: their lines of the registry, and the functions of their Mosaic forms.
#[derive(Default)]
struct Declarations {
    list: String,
    mosaic: Vec<MosaicForm>,
}

/// What a variant's Mosaic form is on a kind of TPU.
#[cfg_attr(not(feature = "aot"), allow(dead_code))] // for embedding alone
struct MosaicForm {
    variant: String,
    kind: TpuKind,
    kernel: Kernel,
    function: Function,
}

fn registry() -> Result<()> {
    let mut found = Declarations::default();
    for declared in manifest::<AttentionManifest>("attention")?.variant {
        let at = format!("attention/{}", declared.id);
        let p = &declared.params;
        let mut text = format!(
            "AttentionSpec::builder({}, {}, {}).page_size({}).dtype({})",
            p.q_heads,
            p.kv_heads,
            p.head_dim,
            p.page_size,
            dtype(&at, &p.dtype)?.1
        );
        let mut spec = AttentionSpec::builder(p.q_heads, p.kv_heads, p.head_dim)
            .page_size(p.page_size)
            .dtype(dtype(&at, &p.dtype)?.0);
        if let Some(scale) = p.scale {
            spec = spec.scale(scale);
            write!(text, ".scale({scale:?})").map_err(|e| e.to_string())?;
        }
        if let Some(cap) = p.soft_cap {
            spec = spec.soft_cap(cap);
            write!(text, ".soft_cap({cap:?})").map_err(|e| e.to_string())?;
        }
        if let Some(window) = p.window {
            spec = spec.sliding_window(window);
            write!(text, ".sliding_window({window})").map_err(|e| e.to_string())?;
        }
        let spec = spec.build().map_err(|e| format!("{at}: {e}"))?;
        found.add(&at, &declared, VariantShape::Attention(spec), &format!("Attention({text}.build()?)"))?;
    }
    for declared in manifest::<Manifest<params::KvWrite>>("kv_write")?.variant {
        let at = format!("kv_write/{}", declared.id);
        let p = &declared.params;
        let (dtype, dtype_text) = dtype(&at, &p.dtype)?;
        let spec =
            KvWriteSpec::new(p.kv_heads, p.head_dim, p.page_size, dtype).map_err(|e| format!("{at}: {e}"))?;
        let text = format!(
            "KvWrite(KvWriteSpec::new({}, {}, {}, {dtype_text})?)",
            p.kv_heads, p.head_dim, p.page_size
        );
        found.add(&at, &declared, VariantShape::KvWrite(spec), &text)?;
    }
    for (kernel, shape, name) in [
        (
            "label_logprobs",
            VariantShape::LabelLogprobs as fn(LabelLogprobsSpec) -> VariantShape,
            "LabelLogprobs",
        ),
        ("label_softmax", VariantShape::LabelSoftmax, "LabelSoftmax"),
    ] {
        for declared in manifest::<LabelsManifest>(kernel)?.variant {
            let at = format!("{kernel}/{}", declared.id);
            let p = &declared.params;
            let (dtype, dtype_text) = dtype(&at, &p.dtype)?;
            let (labels, set) = if p.per_row {
                (LabelSet::PerRow(p.labels), "PerRow")
            } else {
                (LabelSet::Shared(p.labels), "Shared")
            };
            let spec =
                LabelLogprobsSpec::new(p.hidden, p.vocab, labels, dtype).map_err(|e| format!("{at}: {e}"))?;
            let text = format!(
                "{name}(LabelLogprobsSpec::new({}, {}, LabelSet::{set}({}), {dtype_text})?)",
                p.hidden, p.vocab, p.labels
            );
            found.add(&at, &declared, shape(spec), &text)?;
        }
    }
    // What Debug prints of it is Rust.
    let tiles = |t: Tiles| format!("{t:?}");
    let Blocks { attention, attention_tpu, vocab_block } = *registry::BLOCKS;
    let text = format!(
        "pub(super) static BLOCKS: Blocks = Blocks {{ attention: {}, attention_tpu: {}, vocab_block: {vocab_block} }};\n\n\
         pub(super) static TUNED: &[TunedEntry] = &{};\n\n\
         /// Every declared variant.\npub fn variants() -> Result<Vec<Variant>, SpecError> {{\n    Ok(vec![\n{}    ])\n}}\n",
        tiles(attention),
        tiles(attention_tpu),
        tables::literal(),
        found.list,
    );
    write("registry.rs", &text)?;
    #[cfg(feature = "aot")]
    write("embedded.rs", &aot::embedded(&found.mosaic)?)?;
    Ok(())
}

fn write(file: &str, text: &str) -> Result<()> {
    let out = std::env::var("OUT_DIR").map_err(|e| format!("OUT_DIR: {e}"))?;
    std::fs::write(Path::new(&out).join(file), text).map_err(|e| format!("{file}: {e}"))
}

/// Block sizes, from the manifests.
fn blocks() -> Result<Blocks> {
    let attention: AttentionManifest = manifest("attention")?;
    let labels: LabelsManifest = manifest("label_logprobs")?;
    let lacks = |table: &str| format!("manifest.toml lacks [{table}]");
    Ok(Blocks {
        attention: attention.portable.ok_or_else(|| lacks("portable"))?,
        attention_tpu: attention.tpu.ok_or_else(|| lacks("tpu"))?,
        vocab_block: labels.portable.ok_or_else(|| lacks("portable"))?.vocab_block,
    })
}

fn manifest<M: DeserializeOwned + Named>(kernel: &str) -> Result<M> {
    let path = format!("kernels/{kernel}/manifest.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let manifest: M = toml::from_str(&text).map_err(|e| format!("{path}: {e}"))?;
    if manifest.name() != kernel {
        return Err(format!(
            "{path}: kernel is {:?}; it must be {kernel:?}, the folder's name",
            manifest.name()
        ));
    }
    Ok(manifest)
}

trait Named {
    fn name(&self) -> &str;
}

impl<P, B> Named for Manifest<P, B> {
    fn name(&self) -> &str {
        &self.kernel
    }
}

fn dtype(at: &str, name: &str) -> Result<(DType, &'static str)> {
    match name {
        "f32" => Ok((DType::F32, "DType::F32")),
        "bf16" => Ok((DType::Bf16, "DType::Bf16")),
        other => Err(format!("{at}: dtype is {other:?}; it must be \"f32\" or \"bf16\"")),
    }
}

impl Declarations {
    /// Checks a variant and adds it.
    fn add<P>(&mut self, at: &str, declared: &Declared<P>, shape: VariantShape, text: &str) -> Result<()> {
        let (workload, mosaic) = (declared.workload, declared.mosaic);
        let variant = Variant { id: at.to_owned().leak(), shape, workload, mosaic };
        let kernel = |target| variant.kernel(target).map_err(|e| format!("{at}: workload: {e}"));
        let function = |kernel: &Kernel, target| {
            kernels::stablehlo_function(kernel.name(), kernel, target).map_err(|e| format!("{at}: {e}"))
        };
        function(&kernel(Target::Portable)?, Target::Portable)?;
        if mosaic {
            let default = kernel(Target::Tpu)?;
            check_mosaic(at, &default, &TpuKind::ALL)?;
            for kind in TpuKind::ALL {
                let kernel =
                    variant.tpu_kernel(kind).map_err(|e| format!("{at}: workload on {kind}: {e}"))?;
                if kernel != default {
                    check_mosaic(at, &kernel, &[kind])?;
                }
                let function = function(&kernel, Target::Tpu)?;
                self.mosaic.push(MosaicForm { variant: at.to_owned(), kind, kernel, function });
            }
        }
        let Workload { query, items, item_tokens, pool_pages } = workload;
        self.list += &format!(
            "        Variant {{ id: {at:?}, shape: VariantShape::{text}, mosaic: {mosaic}, workload: Workload {{ \
             query: {query}, items: {items}, item_tokens: {item_tokens}, pool_pages: {pool_pages} }} }},\n"
        );
        Ok(())
    }
}

/// Parses and verifies the Mosaic text, and holds what it declares against the memories of device kinds.
fn check_mosaic(at: &str, kernel: &Kernel, kinds: &[TpuKind]) -> Result<()> {
    let text = kernel.mosaic_text(kernel.name()).map_err(|e| format!("{at}: {e}"))?;
    let line = |location: Option<emulator::Location>| {
        let line = location.and_then(|l| text.lines().nth(l.line as usize - 1));
        line.map_or(String::new(), |line| format!(": {}", line.trim().chars().take(160).collect::<String>()))
    };
    let parsed = Emulator::new(&text).map_err(|e| format!("{at}: Mosaic text: {e}{}", line(e.location())))?;
    if let Some(finding) = parsed.check_alignment().first() {
        return Err(format!("{at}: Mosaic text: {finding}{}", line(Some(finding.location))));
    }
    for kind in kinds {
        parsed
            .memory()
            .within(kind.vmem_budget(), kind.smem_budget())
            .map_err(|e| format!("{at}: on {kind} it {e}"))?;
    }
    Ok(())
}

/// Tables of tuned block sizes.
mod tables {
    use super::kernels::{Tiles, TpuKind, TunedEntry, WorkloadClass};
    use super::{Deserialize, Result, dtype, registry};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        device: String,
        entry: Vec<Entry>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        class: WorkloadClass,
        q_heads: usize,
        kv_heads: usize,
        head_dim: usize,
        dtype: String,
        page_size: usize,
        tiles: Tiles,
        #[serde(default)]
        scaled_scores: bool,
        /// What the choice rests on is for readers and `make tune`.
        #[serde(rename = "workload")]
        _workload: String,
        #[serde(rename = "candidate")]
        _candidate: toml::Value,
    }

    /// The entries of every table.
    pub(super) fn entries() -> Result<Vec<TunedEntry>> {
        let mut entries = Vec::new();
        for device in TpuKind::ALL {
            let path = format!("kernels/tables/{device}.toml");
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
            let table: Table = toml::from_str(&text).map_err(|e| format!("{path}: {e}"))?;
            if table.device != device.to_string() {
                return Err(format!(
                    "{path}: device is {:?}; it must be {device}, as the file says",
                    table.device
                ));
            }
            for e in table.entry {
                if e.kv_heads == 0 || e.q_heads == 0 || !e.q_heads.is_multiple_of(e.kv_heads) {
                    let (q, kv) = (e.q_heads, e.kv_heads);
                    return Err(format!("{path}: q_heads is {q}; it must be a multiple of kv_heads, {kv}"));
                }
                entries.push(TunedEntry {
                    device,
                    class: e.class,
                    q_heads: e.q_heads,
                    kv_heads: e.kv_heads,
                    head_dim: e.head_dim,
                    dtype: dtype(&path, &e.dtype)?.0,
                    page_size: e.page_size,
                    tiles: e.tiles,
                    scaled_scores: e.scaled_scores,
                });
            }
        }
        Ok(entries)
    }

    /// The entries as Rust.
    pub(super) fn literal() -> String {
        let mut list = String::new();
        for e in registry::TUNED.iter() {
            let TunedEntry { q_heads, kv_heads, head_dim, page_size, scaled_scores, .. } = e;
            let tiles: Tiles = e.tiles;
            list += &format!(
                "    TunedEntry {{ device: TpuKind::{:?}, class: WorkloadClass::{:?}, q_heads: {q_heads}, \
                 kv_heads: {kv_heads}, head_dim: {head_dim}, dtype: DType::{:?}, page_size: {page_size}, \
                 tiles: {tiles:?}, \
                 scaled_scores: {scaled_scores} }},\n",
                e.device, e.class, e.dtype
            );
        }
        format!("[\n{list}]")
    }
}

/// Executables that `make aot` compiled, into the library.
#[cfg(feature = "aot")]
mod aot {
    use super::{Deserialize, MosaicForm, Path, Result};

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
    pub(super) fn embedded(declared: &[MosaicForm]) -> Result<String> {
        println!("cargo::rerun-if-env-changed={FOLDER}");
        let Some(folder) = std::env::var_os(FOLDER) else {
            println!("cargo::warning=feature aot: {FOLDER} is not set, so no executable is embedded");
            return list("");
        };
        let folder = std::path::absolute(&folder).map_err(|e| format!("{FOLDER}: {e}"))?;
        println!("cargo::rerun-if-changed={}", folder.display());
        let path = folder.join("manifest.toml");
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{FOLDER}: {}: {e}", path.display()))?;
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
}
