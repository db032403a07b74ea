//! A page about replayed schedules that refers to no other file.

use std::path::Path;

use anyhow::{Context as _, ensure};
use minijinja::{Environment, context};
use serde::Serialize;
use tpu_rpa::schedule::{DeviceKind, Region, Replay, Schedule, Unit, Work};
use workloads::{Source, Workload};

use crate::args::{Heads, Report};
use crate::report_plots::{Point, roofline, utilization};
use crate::workload::Case;
use crate::{compare, table};

/// Units that a region's strip shows. Fills are among loads, and spills among stores.
pub(crate) const STRIP: [Unit; 6] =
    [Unit::MatMul, Unit::Valu, Unit::Eup, Unit::Xlu, Unit::VLoad, Unit::VStore];

/// A workload's figures, as the page shows them.
#[derive(Serialize)]
struct Row {
    name: String,
    microseconds: String,
    slots: String,
    waits: String,
    roofs: Vec<Roof>,
    gflop: String,
    /// Bytes that cannot be avoided, and bytes that were copied.
    least_mib: String,
    copied_mib: String,
    vmem_mib: String,
    regions: Vec<Line>,
    others: Others,
    strip: String,
}

#[derive(Serialize)]
struct Roof {
    microseconds: String,
    percent: String,
}

/// A region.
#[derive(Serialize)]
struct Line {
    first: String,
    in_loop: String,
    slots: usize,
    runs: u64,
    microseconds: String,
    waits: String,
    bound: &'static str,
    per_tile: String,
    fills: u64,
    spills: u64,
    busy: Vec<String>,
}

/// What the regions that are not shown take.
#[derive(Serialize)]
struct Others {
    microseconds: String,
    waits: String,
}

pub(crate) fn run(args: &Report) -> anyhow::Result<()> {
    let sources = args.run.shape.workloads()?;
    let build = &args.run.shape.build;
    let device = build.device;
    let compiler = compare::compiler(&args.run.source)?;
    let (mut rows, mut points) = (Vec::new(), Vec::new());
    for source in &sources {
        let name = source.name.as_str();
        let case = Case::new(&source.workload, build).context(source.name.clone())?;
        let schedule = compiler.schedule(&case.kernel, device, &args.run.source.cache)?;
        let replay = schedule.replay(case.kernel.prefetch(), &device.dma_model(args.run.latency));
        ensure!(replay.trusted(), "{}: not trusted: {:?}", name, replay.trouble);
        points.push(point(name, device, &case.work, &replay));
        rows.push(row(name, device, &schedule, &replay, &case.work)?);
    }
    let mut templates = Environment::new();
    templates.add_template("report.html", include_str!("report.html.jinja")).context("template")?;
    let page = templates.get_template("report.html")?.render(context! {
        style => plot::STYLE,
        device => device.name(),
        compiler => compiler.version(device)?,
        package => package_version(&args.run.source.libtpu),
        clock => format!("{:.2}", 1e-9 * device.clock()),
        peak => format!("{:.0}", 1e-12 * device.peak_flops()),
        bandwidth => format!("{:.0}", 1e-9 * device.hbm_bandwidth()),
        shapes => shapes(&sources),
        tiles => build.tiles.map_or("tuned for each workload".to_owned(), |tiles| tiles.to_string()),
        latency => args.run.latency,
        units => STRIP.map(Unit::name),
        roofline => roofline(device, &points)?,
        rows,
    });
    std::fs::write(&args.out, page.context("report")?).with_context(|| args.out.display().to_string())?;
    println!("{}", args.out.display());
    Ok(())
}

/// Heads, pages and types, each once.
fn shapes(sources: &[Source]) -> String {
    let mut all: Vec<String> = Vec::new();
    for source in sources {
        let shape = match &source.workload {
            Workload::Attention(a) => {
                let heads = Heads { q: a.q_heads, kv: a.kv_heads, dim: a.head_dim };
                format!("heads {heads} in {}, pages of {} tokens", a.dtype, a.page_size)
            }
            Workload::Labels(l) => {
                format!("labels over a vocabulary of {}, hidden {}, in {}", l.vocab, l.hidden, l.dtype)
            }
        };
        if !all.contains(&shape) {
            all.push(shape);
        }
    }
    all.join("; ")
}

/// Version of the Python package that the library lies in, which the library itself does not tell.
fn package_version(library: &Path) -> Option<String> {
    let packages = library.parent()?.parent()?.read_dir().ok()?;
    packages.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_prefix("libtpu-")?.strip_suffix(".dist-info")?.to_owned())
    })
}

/// Bytes to and from HBM.
fn copied(replay: &Replay) -> f64 {
    (replay.traffic.into_core.bytes + replay.traffic.to_hbm.bytes) as f64
}

fn point(name: &str, device: DeviceKind, work: &Work, replay: &Replay) -> Point {
    Point {
        name: name.to_owned(),
        least: work.flops / work.bytes,
        copied: work.flops / copied(replay),
        rate: work.flops / (replay.cycles / device.clock()),
    }
}

fn row(
    name: &str,
    device: DeviceKind,
    schedule: &Schedule,
    replay: &Replay,
    work: &Work,
) -> anyhow::Result<Row> {
    let us = |cycles: f64| format!("{:.1}", 1e6 * cycles / device.clock());
    let mib = |bytes: f64| format!("{:.1}", bytes / f64::from(1 << 20));
    let seconds = replay.cycles / device.clock();
    let roofs = work.roofs(device).named().map(|(_, roof)| Roof {
        microseconds: format!("{:.1}", 1e6 * roof),
        percent: format!("{:.0}", 100.0 * roof / seconds),
    });
    let (shown, others) = table::notable(schedule, replay);
    Ok(Row {
        name: name.to_owned(),
        microseconds: us(replay.cycles),
        slots: us(replay.slots as f64),
        waits: us(replay.stall_cycles()),
        roofs: roofs.into(),
        gflop: format!("{:.1}", 1e-9 * work.flops),
        least_mib: mib(work.bytes),
        copied_mib: mib(copied(replay)),
        vmem_mib: mib(schedule.memory().vmem as f64),
        strip: utilization(&shown)?,
        others: Others {
            microseconds: us(others.iter().map(|r| r.executed() as f64).sum()),
            waits: us(others.iter().map(|r| r.stalls).sum()),
        },
        regions: shown.iter().map(|r| line(r, us)).collect(),
    })
}

fn line(region: &Region, us: impl Fn(f64) -> String) -> Line {
    let tiles = region.tiles();
    Line {
        first: format!("{:#x}", region.first),
        in_loop: region.in_loop.map_or_else(|| "–".to_owned(), |first| format!("{first:#x}")),
        slots: region.slots,
        runs: region.runs,
        microseconds: us(region.executed() as f64),
        waits: us(region.stalls),
        bound: region.bound().name(),
        per_tile: if tiles >= 1.0 { format!("{:.1}", region.slots as f64 / tiles) } else { "–".to_owned() },
        fills: region.units.get(Unit::Fill),
        spills: region.units.get(Unit::Spill),
        busy: STRIP.map(|unit| format!("{:.0}", 100.0 * region.busy(unit))).into(),
    }
}
