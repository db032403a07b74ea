//! Our attention kernel beside public ones, compiled and replayed alike.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use comfy_table::{CellAlignment, Table, presets};
use ndarray::ArrayD;
use ndarray_npy::NpzReader;
use serde_json::json;
use tpu_rpa::schedule::{Compiler, DeviceKind, Kernel, Replay};
use workloads::{Attention, Workload};

use crate::args::{Blocks, Compare, Module, Source, Tiles};
use crate::workload::{Case, sequences};

/// Lowers JAX's ragged paged attention; reads a JSON object, writes what `export` writes.
const JAX_RPA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/public/jax_rpa.py");

pub(crate) fn run(args: &Compare) -> anyhow::Result<()> {
    let compiler = compiler(&args.run.source)?;
    let build = &args.run.shape.build;
    let device = build.device;
    let us = |cycles: f64| 1e6 * cycles / device.clock();
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "workload",
        "ours, us",
        "its tiles",
        "JAX RPA, us",
        "its pages/queries a block",
        "ratio",
    ]);
    for source in args.run.shape.workloads()? {
        let name = source.name;
        let case = Case::new(&source.workload, build).with_context(|| name.clone())?;
        let kernel = case.kernel;
        let tiles = case.plan.map_or_else(String::new, |plan| Tiles::of(&plan.tiling()).to_string());
        let ours = replay(&compiler, &kernel, device, &args.run.source, args.run.latency)?;
        let mut best: Option<(f64, Blocks)> = None;
        let mut star = "";
        if let Workload::Attention(attention) = &source.workload {
            for blocks in candidates(attention, args) {
                match public(attention, blocks, args, &compiler) {
                    Ok(found) if best.is_none_or(|(cycles, _)| found.cycles < cycles) => {
                        best = Some((found.cycles, blocks));
                    }
                    Ok(_) => {}
                    Err(e) => eprintln!("{name} with {blocks} pages/queries a block: {e:#}"),
                }
            }
            if attention.groups.iter().any(|group| group.lead > 0) {
                star = "*";
            }
        }
        table.add_row(match best {
            Some((cycles, blocks)) => vec![
                name,
                format!("{:.0}", us(ours.cycles)),
                tiles,
                format!("{:.0}{star}", us(cycles)),
                blocks.to_string(),
                format!("{:.2}", cycles / ours.cycles),
            ],
            None => vec![name, format!("{:.0}", us(ours.cycles)), tiles],
        });
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    println!(
        "One layer on {device}, replayed schedules, not hardware; JAX's best of these block sizes, clamped to a \
         sequence's pages: {}. * plain causal: the item mask cannot be said there, so compare W1 with W2.",
        args.blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

/// Block sizes to try, none larger than a sequence's pages.
fn candidates(workload: &Attention, args: &Compare) -> Vec<Blocks> {
    let (sequences, _) = sequences(workload);
    let longest = sequences.iter().map(|s| s.pages.len()).max().unwrap_or(0);
    let mut all: Vec<Blocks> = Vec::new();
    for blocks in &args.blocks {
        let blocks = Blocks { pages: blocks.pages.min(longest), ..*blocks };
        if !all.contains(&blocks) {
            all.push(blocks);
        }
    }
    all
}

pub(crate) fn module(args: &Module) -> anyhow::Result<()> {
    let kernel = exported(&args.module, &args.operands)?;
    let schedule = compiler(&args.source)?.schedule(&kernel, args.device, &args.source.cache)?;
    let replay = schedule.replay(kernel.prefetch(), &args.device.dma_model(args.latency));
    let no_latency = schedule.replay(kernel.prefetch(), &args.device.dma_model(0.0));
    crate::table::print(
        &args.module.display().to_string(),
        args.device,
        &schedule,
        &replay,
        &no_latency,
        None,
    );
    Ok(())
}

pub(crate) fn compiler(source: &Source) -> anyhow::Result<Compiler> {
    Ok(Compiler::new(std::env::current_exe()?, &["compile"], &source.libtpu))
}

fn replay(
    compiler: &Compiler,
    kernel: &Kernel,
    device: DeviceKind,
    source: &Source,
    latency: f64,
) -> anyhow::Result<Replay> {
    let schedule = compiler.schedule(kernel, device, &source.cache)?;
    let mut replay = schedule.replay(kernel.prefetch(), &device.dma_model(latency));
    replay.copies.clear();
    ensure!(replay.trusted(), "the replay is not to be trusted: {:?}", replay.trouble);
    Ok(replay)
}

fn public(
    workload: &Attention,
    blocks: Blocks,
    args: &Compare,
    compiler: &Compiler,
) -> anyhow::Result<Replay> {
    let device = args.run.shape.build.device;
    let (sequences, pool_pages) = sequences(workload);
    let folder = tempfile::tempdir()?;
    let case = json!({
        "device_kind": kind(device)?,
        "q_heads": workload.q_heads,
        "kv_heads": workload.kv_heads,
        "head_dim": workload.head_dim,
        "dtype": workload.dtype.mlir(),
        "scale": workload.spec()?.scale(),
        "soft_cap": workload.soft_cap,
        "sliding_window": workload.sliding_window,
        "page_size": workload.page_size,
        "pool_pages": pool_pages,
        "kv_pages_per_block": blocks.pages,
        "queries_per_block": blocks.queries,
        "sequences": sequences,
    });
    let mut child = Command::new(&args.python)
        .arg(JAX_RPA)
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| args.python.display().to_string())?;
    if let Some(stdin) = child.stdin.take() {
        serde_json::to_writer(stdin, &case)?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|l| l.contains("Error")).unwrap_or("no error named");
        bail!("{JAX_RPA}: {}: {last}", output.status);
    }
    let kernel = exported(&folder.path().join("module.mlir"), &folder.path().join("operands.npz"))?;
    replay(compiler, &kernel, device, &args.run.source, args.run.latency)
}

fn kind(device: DeviceKind) -> anyhow::Result<&'static str> {
    Ok(match device {
        DeviceKind::V5e => "TPU v5 lite",
        DeviceKind::V6e => "TPU v6 lite",
        DeviceKind::V7x => "TPU7x",
        other => bail!("JAX's name of {other} is not known"),
    })
}

/// A module and its operands, as `export` writes them.
fn exported(module: &Path, operands: &PathBuf) -> anyhow::Result<Kernel> {
    let text = std::fs::read_to_string(module).with_context(|| module.display().to_string())?;
    let file = std::fs::File::open(operands).with_context(|| operands.display().to_string())?;
    let mut npz = NpzReader::new(file).with_context(|| operands.display().to_string())?;
    let mut prefetch = Vec::new();
    for index in 0..npz.len() {
        let words: ArrayD<i32> = npz
            .by_name(&format!("arg{index}"))
            .with_context(|| format!("{}: arg{index}", operands.display()))?;
        prefetch.push(words.iter().copied().collect());
    }
    Ok(Kernel::new("module", text, prefetch))
}
