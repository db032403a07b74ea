use comfy_table::{CellAlignment, Table, presets};
use tpu_rpa::schedule::{DeviceKind, Direction, Region, Replay, Schedule, Unit};

use crate::workload::Case;

const SHOWN: [Unit; 8] =
    [Unit::MatMul, Unit::Valu, Unit::Eup, Unit::Xlu, Unit::VLoad, Unit::Fill, Unit::VStore, Unit::Spill];

/// Prints where the cycles of one layer go.
pub(crate) fn print(
    name: &str,
    device: DeviceKind,
    schedule: &Schedule,
    replay: &Replay,
    no_latency: &Replay,
    case: Option<&Case>,
) {
    let us = |cycles: f64| 1e6 * cycles / device.clock();
    println!(
        "{name} on {device}: {:.1} us a layer (replayed schedule, not hardware); {:.1} us issue slots, {:.1} us waits for \
         copies; {:.1} us if copies had no latency",
        us(replay.cycles),
        us(replay.slots as f64),
        us(replay.stall_cycles()),
        us(no_latency.cycles),
    );
    let mib = |d: Direction| format!("{:.2} MiB in {} copies", d.bytes as f64 / f64::from(1 << 20), d.copies);
    println!(
        "  from HBM {}, to HBM {}, within the core {}",
        mib(replay.traffic.into_core),
        mib(replay.traffic.to_hbm),
        mib(replay.traffic.local),
    );
    let memory = schedule.memory();
    println!(
        "  {} slots of code; {:.1} MiB of VMEM, {:.2} MiB of it spill; {:.1} KiB of SMEM",
        schedule.slots(),
        memory.vmem as f64 / f64::from(1 << 20),
        memory.vmem_spill as f64 / f64::from(1 << 20),
        memory.smem as f64 / 1024.0,
    );
    if let Some(case) = case {
        let seconds = replay.cycles / device.clock();
        let roofs = case.work.roofs(device).named();
        let roofs = roofs
            .map(|(name, roof)| format!("{name} {:.1} us ({:.0} %)", 1e6 * roof, 100.0 * roof / seconds));
        println!("  roofs, and the share reached: {}", roofs.join(", "));
    }
    if let Some(plan) = case.and_then(|case| case.plan.as_ref()) {
        let stats = plan.stats();
        println!(
            "  planned: {} query tiles, {} full and {} edge tiles, {} metadata words",
            stats.q_tiles,
            stats.full_tiles,
            stats.edge_tiles,
            plan.meta().len()
        );
    }
    for (trouble, times) in &replay.trouble {
        println!("  NOT TRUSTED: {trouble} ({times} times)");
    }
    for (op, times) in &replay.unknown {
        println!("  not executed: {op} ({times} times)");
    }
    for l in schedule.loops(replay) {
        println!(
            "  {}loop {:#x}..{:#x}: entered {}, {} trips",
            "  ".repeat(l.depth),
            l.first,
            l.end,
            l.entries,
            l.trips
        );
    }
    println!("{}", regions(schedule, replay, us));
}

/// Regions that take more than a hundredth of the time or compute score tiles, and all others.
pub(crate) fn notable(schedule: &Schedule, replay: &Replay) -> (Vec<Region>, Vec<Region>) {
    let cost = |r: &Region| r.executed() as f64 + r.stalls;
    let all = schedule.regions(replay).into_iter();
    all.partition(|r| cost(r) >= 0.01 * replay.cycles || (r.exp2 >= 16 && r.runs > 0))
}

/// The notable regions, and all others in one line.
fn regions(schedule: &Schedule, replay: &Replay, us: impl Fn(f64) -> f64) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut header = ["region", "loop", "slots", "runs", "us", "waits us", "bound", "tiles", "slots/tile"]
        .map(str::to_owned)
        .to_vec();
    header.extend(SHOWN.map(|u| format!("{} %", u.name().replace("VLOAD:", "").replace("VSTORE:", ""))));
    table.set_header(header);
    let (large, small) = notable(schedule, replay);
    for r in large {
        let tiles = r.tiles();
        let mut row = vec![
            format!("{:#x}", r.first),
            r.in_loop.map_or_else(|| "-".to_owned(), |l| format!("{l:#x}")),
            r.slots.to_string(),
            r.runs.to_string(),
            format!("{:.1}", us(r.executed() as f64)),
            format!("{:.1}", us(r.stalls)),
            r.bound().name().to_owned(),
            if tiles >= 1.0 { format!("{tiles:.1}") } else { String::new() },
            if tiles >= 1.0 { format!("{:.1}", r.slots as f64 / tiles) } else { String::new() },
        ];
        row.extend(SHOWN.map(|u| format!("{:.0}", 100.0 * r.busy(u))));
        table.add_row(row);
    }
    let executed: u64 = small.iter().map(|r| r.executed()).sum();
    let stalls: f64 = small.iter().map(|r| r.stalls).sum();
    let runs: u64 = small.iter().map(|r| r.runs).sum();
    table.add_row(vec![
        "all other".to_owned(),
        String::new(),
        String::new(),
        runs.to_string(),
        format!("{:.1}", us(executed as f64)),
        format!("{:.1}", us(stalls)),
    ]);
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
