//! Profiles of devices as XLA's profilers collect them: `tensorflow.profiler.XSpace` of OpenXLA's `xplane.proto`, as far
//! as spans need it, and its events in the Chrome trace format.

use std::collections::HashMap;

use anyhow::{Context, Result};
use prost::Message;
use serde_json::{Value, json};

#[derive(Clone, PartialEq, Message)]
pub struct XSpace {
    #[prost(message, repeated, tag = "1")]
    pub planes: Vec<XPlane>,
    #[prost(string, repeated, tag = "2")]
    errors: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    warnings: Vec<String>,
}

/// What one device, or the host, did.
#[derive(Clone, PartialEq, Message)]
pub struct XPlane {
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    lines: Vec<XLine>,
    #[prost(map = "int64, message", tag = "4")]
    event_metadata: HashMap<i64, XEventMetadata>,
}

/// Events that do not overlap, but may be nested.
#[derive(Clone, PartialEq, Message)]
struct XLine {
    #[prost(string, tag = "2")]
    name: String,
    /// Since 1970.
    #[prost(int64, tag = "3")]
    timestamp_ns: i64,
    #[prost(message, repeated, tag = "4")]
    events: Vec<XEvent>,
    #[prost(string, tag = "11")]
    display_name: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct XEvent {
    #[prost(int64, tag = "1")]
    metadata_id: i64,
    /// From the line's timestamp; an aggregate over many has none.
    #[prost(int64, optional, tag = "2")]
    offset_ps: Option<i64>,
    #[prost(int64, tag = "3")]
    duration_ps: i64,
}

#[derive(Clone, PartialEq, Message)]
struct XEventMetadata {
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "4")]
    display_name: String,
}

/// A span of a line, in picoseconds from the line's timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    kind: i64,
    start: i64,
    end: i64,
}

/// How the times of a trace and of a profile belong together, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// When the trace's times begin.
    pub epoch: i64,
    /// When the profiler was started.
    pub started: i64,
}

impl Clock {
    /// Nanoseconds from the trace's beginning to a line's timestamp: a profiler's is a date, one that XLA has
    /// post-processed is the time since the profiler's start.
    fn offset(self, timestamp: i64) -> i64 {
        const YEAR_2000: i64 = 946_684_800_000_000_000;
        if timestamp < YEAR_2000 { self.started + timestamp - self.epoch } else { timestamp - self.epoch }
    }
}

/// The trace events of a serialized space: a process a plane, a thread a line. Times are microseconds since the
/// trace's epoch. A loop of `layers` iterations is the model's, one iteration a layer: each gets a
/// span of its own in a thread beside.
pub fn trace_events(space: &[u8], clock: Clock, layers: usize) -> Result<Vec<Value>> {
    let space = XSpace::decode(space).context("the device profile is no XSpace")?;
    let mut events = Vec::new();
    let words = space.errors.iter().map(|text| ("error", text));
    for (kind, text) in words.chain(space.warnings.iter().map(|text| ("warning", text))) {
        let name = format!("profiler {kind}: {text}");
        events.push(json!({"ph": "i", "s": "g", "name": name, "pid": 1, "tid": 0, "ts": 0}));
    }
    for (at, plane) in space.planes.iter().enumerate() {
        // The host's spans are process 1.
        plane.write(at + 2, clock, layers, &mut events);
    }
    Ok(events)
}

impl XPlane {
    fn write(&self, pid: usize, clock: Clock, layers: usize, events: &mut Vec<Value>) {
        let name = |kind: &'static str, tid: usize, name: &str| json!({"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}});
        if self.lines.iter().all(|line| line.events.is_empty()) {
            return;
        }
        events.push(name("process_name", 0, &self.name));
        for (at, line) in self.lines.iter().enumerate() {
            let title = if line.display_name.is_empty() { &line.name } else { &line.display_name };
            let spans = line.spans();
            let time = |ps: i64| clock.offset(line.timestamp_ns) as f64 / 1e3 + ps as f64 / 1e6;
            let event = |tid: usize, category: &str, label: &str, span: &Span| {
                let (ts, dur) = (time(span.start), (span.end - span.start) as f64 / 1e6);
                json!({"ph": "X", "cat": category, "name": label, "pid": pid, "tid": tid, "ts": ts, "dur": dur})
            };
            let (ops, beside) = (2 * at, 2 * at + 1);
            events.push(name("thread_name", ops, title));
            events.extend(spans.iter().map(|span| event(ops, "op", self.label(span.kind), span)));
            let layer_spans = loop_iterations(&spans, layers, |kind| self.label(kind).starts_with("while"));
            if !layer_spans.is_empty() {
                events.push(name("thread_name", beside, &format!("{title}: layers")));
            }
            for (layer, span) in layer_spans {
                events.push(event(beside, "layer", &format!("layer {layer}"), &span));
            }
        }
    }

    fn label(&self, kind: i64) -> &str {
        let Some(metadata) = self.event_metadata.get(&kind) else { return "unnamed" };
        let label = if metadata.display_name.is_empty() { &metadata.name } else { &metadata.display_name };
        // HLO text begins with the value's name.
        label.strip_prefix('%').unwrap_or(label)
    }
}

impl XLine {
    /// In order of their starts, outer ones first.
    fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = self
            .events
            .iter()
            .filter_map(|event| {
                let start = event.offset_ps?;
                Some(Span { kind: event.metadata_id, start, end: start + event.duration_ps.max(0) })
            })
            .collect();
        spans.sort_by_key(|span| (span.start, -span.end));
        spans
    }
}

/// Iterations of the outermost loops that have `count` of them. The first operation inside a loop begins an iteration
/// each time that it comes; where it belongs to the loop's condition, it comes once more at the end.
fn loop_iterations(spans: &[Span], count: usize, is_loop: impl Fn(i64) -> bool) -> Vec<(usize, Span)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < spans.len() {
        let outer = spans[at];
        at += 1;
        if !is_loop(outer.kind) {
            continue;
        }
        let inside = spans[at..].partition_point(|span| span.start < outer.end);
        let inner = &spans[at..at + inside];
        at += inside;
        let Some(first) = inner.first() else { continue };
        let starts: Vec<i64> =
            inner.iter().filter(|span| span.kind == first.kind).map(|span| span.start).collect();
        if starts.len() != count && starts.len() != count + 1 {
            continue;
        }
        for (i, &start) in starts.iter().take(count).enumerate() {
            let end = starts.get(i + 1).copied().unwrap_or(outer.end);
            found.push((i, Span { kind: outer.kind, start, end }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: i64 = 1_800_000_000_000_000_000;
    const CLOCK: Clock = Clock { epoch: EPOCH, started: EPOCH + 7 };

    #[test]
    fn timestamps_are_dates_or_since_the_start() {
        assert_eq!((CLOCK.offset(EPOCH + 9), CLOCK.offset(9)), (9, 16));
    }

    fn span(kind: i64, start: i64, end: i64) -> Span {
        Span { kind, start, end }
    }

    #[test]
    fn a_loop_with_the_models_number_of_iterations_is_its_layers() {
        // Kind 1 is a loop; kind 2 begins each iteration, and contains a loop of its own.
        let body =
            |from: i64| [span(2, from, from + 8), span(1, from + 1, from + 7), span(3, from + 2, from + 3)];
        let mut spans = vec![span(4, 0, 5), span(1, 10, 45)];
        spans.extend((0..3).flat_map(|i| body(11 + 10 * i)));
        let layers = |count| loop_iterations(&spans, count, |kind| kind == 1);
        let expected = [(0, span(1, 11, 21)), (1, span(1, 21, 31)), (2, span(1, 31, 45))];
        assert_eq!(layers(3), expected);
        // With a condition that is evaluated once more.
        assert_eq!(layers(2), expected[..2]);
        assert_eq!(layers(4), []);
    }

    #[test]
    fn events_have_the_times_of_the_host() {
        let metadata = |name: &str| XEventMetadata { name: name.into(), display_name: String::new() };
        let event = |metadata_id, offset_ps, duration_ps| XEvent { metadata_id, offset_ps, duration_ps };
        let line = XLine {
            name: "XLA Ops".into(),
            timestamp_ns: EPOCH + 1_000_000,
            events: vec![event(2, Some(3_000_000), 500_000), event(1, None, 9)],
            ..XLine::default()
        };
        let event_metadata = HashMap::from([(1, metadata("sum")), (2, metadata("dot.1"))]);
        let plane = XPlane { name: "/device:TPU:0".into(), lines: vec![line], event_metadata };
        let space = XSpace {
            planes: vec![XPlane::default(), plane],
            warnings: vec!["w".into()],
            ..XSpace::default()
        };
        let events = trace_events(&space.encode_to_vec(), CLOCK, 3).expect("a space");
        let dot = events.iter().find(|event| event["name"] == "dot.1").expect("the operation");
        // 1 ms from the epoch to the line, 3 µs to the event.
        assert_eq!((dot["ts"].as_f64(), dot["dur"].as_f64()), (Some(1003.0), Some(0.5)));
        assert_eq!(events.iter().filter(|event| event["ph"] == "X").count(), 1);
        assert!(events.iter().any(|event| event["args"]["name"] == "/device:TPU:0"));
        assert!(events.iter().any(|event| event["name"] == "profiler warning: w"));
        assert!(trace_events(b"no protobuf", CLOCK, 1).is_err());
    }
}
