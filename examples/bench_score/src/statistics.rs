use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Latencies in milliseconds. Percentiles are by nearest rank; the deviation is that of the sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) mean: f64,
    pub(crate) std: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Latency {
    /// All zero without latencies.
    pub(crate) fn of(latencies: &[Duration]) -> Self {
        let mut ms: Vec<f64> = latencies.iter().map(|l| l.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (ms.first(), ms.last()) else { return Latency::default() };
        let count = ms.len() as f64;
        let rank = |percent: f64| ms[((percent / 100.0 * count).ceil() as usize).clamp(1, ms.len()) - 1];
        let mean = ms.iter().sum::<f64>() / count;
        let squares: f64 = ms.iter().map(|l| (l - mean).powi(2)).sum();
        let std = (squares / (count - 1.0).max(1.0)).sqrt();
        Latency { p50: rank(50.0), p90: rank(90.0), p95: rank(95.0), p99: rank(99.0), mean, std, min, max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let ms: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let l = Latency::of(&ms);
        assert_eq!((l.p50, l.p90, l.p95, l.p99, l.min, l.max), (100.0, 180.0, 190.0, 198.0, 1.0, 200.0));
        assert!((l.mean - 100.5).abs() < 1e-9 && (l.std - 57.879).abs() < 1e-3, "{l:?}");
        assert_eq!(Latency::of(&[]), Latency::default());
        assert_eq!(Latency::of(&ms[..1]).std, 0.0);
    }
}
