//! A committed table of replayed figures, and what became of them.

use std::fmt::Write as _;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use tpu_rpa::schedule::{Compiler, Unit};
use workloads::{Source, Workload};

use crate::args::{Build, Heads, Ratchet};
use crate::workload::Case;

/// Most that a figure may grow before it counts as worse.
const SLACK: f64 = 1.02;

/// Latency of copies that the table assumes, in nanoseconds.
const LATENCY: f64 = 1000.0;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Row {
    workload: String,
    device: String,
    heads: String,
    tiles: String,
    /// Recomputed by the tests.
    #[serde(default)]
    fast: bool,
    #[serde(default)]
    figures: Figures,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    /// All, waits for copies included.
    cycles: u64,
    /// Issue slots executed.
    slots: u64,
    /// Bytes to and from HBM.
    dma_bytes: u64,
    /// Vector registers spilled and filled, executed.
    spills: u64,
    /// Bytes of VMEM.
    vmem: u64,
}

impl Figures {
    fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("cycles", self.cycles),
            ("slots", self.slots),
            ("dma_bytes", self.dma_bytes),
            ("spills", self.spills),
            ("vmem", self.vmem),
        ]
    }
}

const HEAD: &str = "\
# Replayed schedules of the attention and label kernels, one layer: not hardware.
# `cargo run --release -p schedule -- ratchet --update` writes it, for new cases too.
# cycles: at one slot a cycle, copies at published bandwidth with 1 us latency, waits included; slots: executed;
# dma_bytes: to and from HBM; spills: executed spills and fills of vector registers; vmem: bytes allocated.
";

pub(crate) fn run(args: &Ratchet) -> anyhow::Result<()> {
    let path = args.table.display();
    let text = std::fs::read_to_string(&args.table).with_context(|| path.to_string())?;
    let mut table: Table = toml::from_str(&text).with_context(|| path.to_string())?;
    let compiler = crate::compare::compiler(&args.source)?;
    let (mut worse, mut better) = (String::new(), String::new());
    for row in table.case.iter_mut().filter(|row| row.fast || !args.fast) {
        let name = format!("{} {} {} {}", row.workload, row.device, row.heads, row.tiles);
        let found = figures(row, &compiler, args).with_context(|| name.clone())?;
        println!("{name}: {found:?}");
        for ((figure, before), (_, now)) in row.figures.named().into_iter().zip(found.named()) {
            if before == 0 {
                continue;
            }
            let line = format!("{name}: {figure} {before} -> {now} ({:+.1} %)", change(before, now));
            if now as f64 > SLACK * before as f64 {
                writeln!(worse, "{line}")?;
            } else if now as f64 * SLACK < before as f64 {
                writeln!(better, "{line}")?;
            }
        }
        ensure!(args.update || row.figures.cycles > 0, "{name} has no figures yet: run with --update");
        row.figures = found;
    }
    if args.update {
        std::fs::write(&args.table, format!("{HEAD}\n{}", toml::to_string(&table)?))
            .with_context(|| path.to_string())?;
    }
    print!("{better}");
    if worse.is_empty() || args.update {
        print!("{worse}");
        return Ok(());
    }
    bail!("worse than {path} by more than 2 %; if that is meant, run with --update:\n{worse}")
}

fn change(before: u64, now: u64) -> f64 {
    100.0 * (now as f64 / before as f64 - 1.0)
}

fn figures(row: &Row, compiler: &Compiler, args: &Ratchet) -> anyhow::Result<Figures> {
    let parsed = |e: String| anyhow::anyhow!(e);
    // Figures of a file that may change would say nothing.
    ensure!(
        workloads::NAMES.contains(&row.workload.as_str()),
        "workload is {:?}; in a table it must be one of {}",
        row.workload,
        workloads::NAMES.join(", ")
    );
    let mut workload = Source::open(&row.workload)?.workload;
    if let Workload::Attention(attention) = &mut workload {
        row.heads.parse::<Heads>().map_err(parsed)?.set(attention);
    }
    workload.check()?;
    let tiles = Some(row.tiles.parse().map_err(parsed)?);
    let build = Build { device: row.device.parse()?, tiles, scaled_scores: None };
    let kernel = Case::new(&workload, &build)?.kernel;
    let schedule = compiler.schedule(&kernel, build.device, &args.source.cache)?;
    let replay = schedule.replay(kernel.prefetch(), &build.device.dma_model(LATENCY));
    ensure!(replay.trusted(), "not trusted: {:?}", replay.trouble);
    let executed = schedule.executed(&replay);
    Ok(Figures {
        cycles: replay.cycles.round() as u64,
        slots: replay.slots,
        dma_bytes: replay.traffic.into_core.bytes + replay.traffic.to_hbm.bytes,
        spills: executed.get(Unit::Fill) + executed.get(Unit::Spill),
        vmem: schedule.memory().vmem,
    })
}
