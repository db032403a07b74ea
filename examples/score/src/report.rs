use std::time::Duration;

use engine::Llama;

/// Items, tokens and speed, without the time spent on programs.
pub(crate) fn speed(engine: &Llama, items: usize, tokens: usize, elapsed: Duration) -> String {
    let seconds = elapsed.saturating_sub(engine.compile_time()).as_secs_f64();
    let rate = items as f64 / seconds.max(1e-9);
    format!("{items} items, {tokens} tokens: {seconds:.2} s, {rate:.1} items/s")
}

/// Programs made so far, and memory.
pub(crate) fn resources(engine: &Llama) -> String {
    let cache = engine.cache_stats();
    let seconds = engine.compile_time().as_secs_f64();
    let mut line =
        format!("programs: {} compiled, {} from disk, {seconds:.1} s", cache.compiles, cache.disk_hits);
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
