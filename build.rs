//! Renders and verifies every declared kernel variant, and generates the registry. Offline: no network, no
//! plugin, no TPU.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde::Deserialize;
use serde::de::DeserializeOwned;

#[path = "src/batch/meta.rs"]
#[allow(dead_code)]
mod meta;
#[path = "src/kernels/params.rs"]
mod params;
#[path = "src/kernels/render.rs"]
#[allow(dead_code)] // the library renders more
mod render;
#[path = "src/kernels/verify.rs"]
mod verify;

use meta::layout;

/// A kernel's `manifest.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest<P, B = ()> {
    kernel: String,
    #[serde(rename = "summary")]
    _summary: String,
    portable: Option<B>,
    variant: Vec<Declared<P>>,
}

#[derive(Deserialize)]
struct Declared<P> {
    id: String,
    #[serde(flatten)]
    params: P,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tiles {
    q_tile: usize,
    kv_tile: usize,
    own_tile: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Blocks {
    vocab_block: usize,
}

type Result<T> = std::result::Result<T, String>;

/// Bucket in which declared variants are checked; shapes scale with it, structure does not.
const TOKENS: usize = 512;
const POOL_PAGES: usize = 64;
const ROWS: usize = 32;

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-changed=src/kernels");
    println!("cargo:rerun-if-changed=src/batch/meta.rs");
    match registry() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("kernels: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn registry() -> Result<()> {
    let attention: Manifest<params::Attention, Tiles> = manifest("attention")?;
    let tiles = attention.portable.as_ref().ok_or("attention/manifest.toml has no [portable] table")?;
    let kv_write: Manifest<params::KvWrite> = manifest("kv_write")?;
    let logprobs: Manifest<params::Labels, Blocks> = manifest("label_logprobs")?;
    let softmax: Manifest<params::Labels> = manifest("label_softmax")?;
    let block =
        logprobs.portable.as_ref().ok_or("label_logprobs/manifest.toml has no [portable] table")?.vocab_block;

    let mut variants = String::new();
    for d in &attention.variant {
        let p = &d.params;
        let scale = p.scale.unwrap_or(1.0 / (p.head_dim as f32).sqrt());
        let context = render::AttentionContext {
            name: "attention",
            params: params::Attention { scale: Some(scale), ..p.clone() },
            tokens: TOKENS,
            q_tile: tiles.q_tile,
            kv_tile: tiles.kv_tile.max(p.page_size),
            own_tile: tiles.own_tile,
            pool_pages: POOL_PAGES,
            meta_words: 16 * TOKENS,
            key_slots: 0,
        };
        check(&attention.kernel, &d.id, render::attention(&context))?;
        let mut spec = format!(
            "AttentionSpec::builder({}, {}, {}).page_size({}).dtype({}).scale({scale:?})",
            p.q_heads,
            p.kv_heads,
            p.head_dim,
            p.page_size,
            dtype(&p.dtype)?
        );
        if let Some(cap) = p.soft_cap {
            write!(spec, ".soft_cap({cap:?})").expect("writing to a string");
        }
        if let Some(window) = p.window {
            write!(spec, ".sliding_window({window})").expect("writing to a string");
        }
        entry(&mut variants, &attention.kernel, &d.id, "Attention", &format!("{spec}.build()?"));
    }
    for d in &kv_write.variant {
        let p = &d.params;
        let context = render::KvWriteContext {
            name: "kv_write",
            params: p.clone(),
            tokens: TOKENS,
            pool_pages: POOL_PAGES,
        };
        check(&kv_write.kernel, &d.id, render::kv_write(&context))?;
        let spec = format!(
            "KvWriteSpec::new({}, {}, {}, {})?",
            p.kv_heads,
            p.head_dim,
            p.page_size,
            dtype(&p.dtype)?
        );
        entry(&mut variants, &kv_write.kernel, &d.id, "KvWrite", &spec);
    }
    labels(
        &mut variants,
        &logprobs.kernel,
        &logprobs.variant,
        "LabelLogprobs",
        block,
        render::label_logprobs,
    )?;
    labels(&mut variants, &softmax.kernel, &softmax.variant, "LabelSoftmax", block, render::label_softmax)?;

    let text = format!(
        "const Q_TILE: usize = {};\nconst KV_TILE: usize = {};\nconst OWN_TILE: usize = {};\n\
         pub(super) const VOCAB_BLOCK: usize = {block};\n\n\
         /// Every declared variant.\npub fn variants() -> Result<Vec<Variant>, SpecError> {{\n    Ok(vec![\n{variants}    ])\n}}\n",
        tiles.q_tile, tiles.kv_tile, tiles.own_tile,
    );
    let out = std::env::var("OUT_DIR").map_err(|e| format!("OUT_DIR: {e}"))?;
    std::fs::write(Path::new(&out).join("registry.rs"), text).map_err(|e| format!("registry.rs: {e}"))
}

fn labels(
    variants: &mut String,
    kernel: &str,
    declared: &[Declared<params::Labels>],
    shape: &str,
    block: usize,
    render: impl Fn(&render::LabelsContext<'_>) -> std::result::Result<String, minijinja::Error>,
) -> Result<()> {
    for d in declared {
        let p = &d.params;
        let context = render::LabelsContext {
            name: "labels",
            params: p.clone(),
            tokens: TOKENS,
            rows: ROWS,
            vocab_block: block.min(p.vocab),
        };
        check(kernel, &d.id, render(&context))?;
        let set = if p.per_row { "PerRow" } else { "Shared" };
        let spec = format!(
            "LabelLogprobsSpec::new({}, {}, LabelSet::{set}({}), {})?",
            p.hidden,
            p.vocab,
            p.labels,
            dtype(&p.dtype)?
        );
        entry(variants, kernel, &d.id, shape, &spec);
    }
    Ok(())
}

fn manifest<P: DeserializeOwned, B: DeserializeOwned>(kernel: &str) -> Result<Manifest<P, B>> {
    let path = format!("kernels/{kernel}/manifest.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let manifest: Manifest<P, B> = toml::from_str(&text).map_err(|e| format!("{path}: {e}"))?;
    if manifest.kernel != kernel {
        return Err(format!(
            "{path}: kernel is {:?}; it must be {kernel:?}, the folder's name",
            manifest.kernel
        ));
    }
    Ok(manifest)
}

fn check(kernel: &str, id: &str, rendered: std::result::Result<String, minijinja::Error>) -> Result<()> {
    let text = rendered.map_err(|e| format!("{kernel}/{id}: {e:#}"))?;
    verify::verify(&text).map_err(|e| format!("{kernel}/{id}: {e}"))
}

fn dtype(name: &str) -> Result<&'static str> {
    match name {
        "f32" => Ok("DType::F32"),
        "bf16" => Ok("DType::Bf16"),
        other => Err(format!("dtype is {other:?}; it must be \"f32\" or \"bf16\"")),
    }
}

fn entry(variants: &mut String, kernel: &str, id: &str, shape: &str, spec: &str) {
    writeln!(variants, "        Variant {{ id: \"{kernel}/{id}\", shape: VariantShape::{shape}({spec}) }},")
        .expect("writing to a string");
}
