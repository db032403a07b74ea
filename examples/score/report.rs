use std::time::Duration;

use crate::engine::Llama;

/// An error and its causes on one line.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Many errors spell out their cause themselves.
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Programs, time and memory, as one line.
pub(crate) fn totals(engine: &Llama, items: usize, tokens: usize, elapsed: Duration) -> String {
    let cache = engine.cache_stats();
    let compile = engine.compile_time();
    let scoring = elapsed.saturating_sub(compile).as_secs_f64();
    let mut line = format!(
        "{items} items, {tokens} tokens: {scoring:.2} s, {:.1} items/s; programs: {} compiled, {} from disk, {:.1} s",
        items as f64 / scoring.max(1e-9),
        cache.compiles,
        cache.disk_hits,
        compile.as_secs_f64(),
    );
    if let Some(bytes) = peak_memory() {
        line += &format!("; peak memory {} MB", bytes / 1_000_000);
    }
    line
}

/// Largest resident size of this process so far, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
