//! A replayed timeline as Chrome trace events, which Perfetto reads.

use std::collections::HashMap;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};
use tpu_rpa::schedule::{DeviceKind, Event, Region, Replay, Schedule, Unit};

const CORE: u32 = 1;
const WAITS: u32 = 2;
const HBM: u32 = 3;
const LATENCY: u32 = 4;

/// Units with a track of their own.
const UNITS: [Unit; 6] = [Unit::MatMul, Unit::Valu, Unit::Eup, Unit::Xlu, Unit::VLoad, Unit::VStore];

/// Writes the timeline of `replay`.
pub(crate) fn write(
    path: &Path,
    name: &str,
    device: DeviceKind,
    schedule: &Schedule,
    replay: &Replay,
) -> anyhow::Result<()> {
    let us = |cycles: f64| 1e6 * cycles / device.clock();
    let mut events = vec![
        json!({"ph": "M", "pid": 1, "name": "process_name", "args": {"name": format!("{name} on {device}")}}),
    ];
    for (track, title) in
        [(CORE, "core"), (WAITS, "waits for copies"), (HBM, "HBM queue"), (LATENCY, "copies until complete")]
    {
        events
            .push(json!({"ph": "M", "pid": 1, "tid": track, "name": "thread_name", "args": {"name": title}}));
    }
    let slice = |track: u32, name: String, from: f64, until: f64, args: Value| json!({"ph": "X", "pid": 1, "tid": track, "name": name, "ts": us(from), "dur": us(until - from), "args": args});
    let regions: HashMap<usize, Region> =
        schedule.regions(replay).into_iter().map(|region| (region.first, region)).collect();
    let mut open: Option<(usize, f64)> = None;
    let close = |events: &mut Vec<Value>, open: Option<(usize, f64)>, until: f64| {
        let Some((slot, from)) = open else { return };
        let Some(region) = regions.get(&slot) else { return };
        let args = json!({"slots": region.slots, "bound": region.bound().name()});
        events.push(slice(CORE, format!("{slot:#x}"), from, until, args));
        // Short regions would make counters noise.
        if region.slots >= 64 {
            for unit in UNITS {
                let busy = json!({"%": 100.0 * region.busy(unit)});
                events.push(json!({"ph": "C", "pid": 1, "name": unit.name(), "ts": us(from), "args": busy}));
            }
        }
    };
    for event in &replay.events {
        match *event {
            Event::Region { slot, at } => {
                close(&mut events, open.replace((slot, at)), at);
            }
            Event::Wait { slot, from, until } => {
                events.push(slice(WAITS, format!("wait at {slot:#x}"), from, until, Value::Null));
            }
            _ => {}
        }
    }
    close(&mut events, open, replay.cycles);
    for (id, copy) in replay.copies.iter().enumerate() {
        let name = format!("{:.0} KiB at {:#x}", copy.bytes as f64 / 1024.0, copy.slot);
        let args = json!({"issued_us": us(copy.issued), "to_hbm": copy.to_hbm});
        if copy.into_core || copy.to_hbm {
            events.push(slice(HBM, name.clone(), copy.begin, copy.end, args.clone()));
        }
        for phase in ["b", "e"] {
            let at = if phase == "b" { copy.issued } else { copy.done };
            events.push(json!({"ph": phase, "cat": "copy", "pid": 1, "tid": LATENCY, "id": id, "name": name, "ts": us(at), "args": args}));
        }
    }
    let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
    let trace = json!({"traceEvents": events, "displayTimeUnit": "ns"});
    serde_json::to_writer(BufWriter::new(file), &trace).with_context(|| path.display().to_string())
}
