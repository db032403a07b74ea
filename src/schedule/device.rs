use std::fmt;
use std::str::FromStr;

use super::{DmaModel, ScheduleError};

/// A TPU generation that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DeviceKind {
    /// TPU v5e ("TPU v5 lite").
    V5e,
    /// TPU v6e ("TPU v6 lite", Trillium).
    V6e,
    /// TPU7x (Ironwood); figures are those of one of its two cores.
    V7x,
}

impl DeviceKind {
    /// Every kind, oldest first.
    pub const ALL: [DeviceKind; 3] = [DeviceKind::V5e, DeviceKind::V6e, DeviceKind::V7x];

    /// Short name: `v5e`, `v6e`, `v7x`.
    pub fn name(self) -> &'static str {
        match self {
            DeviceKind::V5e => "v5e",
            DeviceKind::V6e => "v6e",
            DeviceKind::V7x => "v7x",
        }
    }

    /// Smallest topology of this kind that libtpu compiles for.
    pub fn topology(self) -> &'static str {
        match self {
            DeviceKind::V5e => "v5e:2x2",
            DeviceKind::V6e => "v6e:2x2",
            DeviceKind::V7x => "tpu7x:2x2x1",
        }
    }

    /// Published dense bf16 peak of one core, FLOP/s: 197e12, 918e12 and 2307e12 a chip of two cores
    /// (<https://cloud.google.com/tpu/docs/v5e>, [v6e](https://cloud.google.com/tpu/docs/v6e),
    /// [tpu7x](https://cloud.google.com/tpu/docs/tpu7x)).
    pub fn peak_flops(self) -> f64 {
        match self {
            DeviceKind::V5e => 197e12,
            DeviceKind::V6e => 918e12,
            DeviceKind::V7x => 2307e12 / 2.0,
        }
    }

    /// Published HBM bandwidth of one core, bytes/s: 819e9, 1640e9 and 7380e9 a chip of two cores (same pages).
    pub fn hbm_bandwidth(self) -> f64 {
        match self {
            DeviceKind::V5e => 819e9,
            DeviceKind::V6e => 1640e9,
            DeviceKind::V7x => 7380e9 / 2.0,
        }
    }

    /// Slots that run after a branch before it takes effect: no listing of libtpu 0.0.52 has a branch or a target sooner
    /// behind a branch, and v7x's fill six.
    pub(super) fn delay_slots(self) -> usize {
        match self {
            DeviceKind::V5e | DeviceKind::V6e => 4,
            DeviceKind::V7x => 6,
        }
    }

    /// Rows and columns of one matrix unit.
    pub fn array_size(self) -> usize {
        match self {
            DeviceKind::V5e => 128,
            DeviceKind::V6e | DeviceKind::V7x => 256,
        }
    }

    /// bf16 rows that all matrix units of a core take in a cycle: 16 an issue; v5e has four units and issues every 16
    /// cycles, v6e and v7x two and every 8.
    pub fn rows_per_cycle(self) -> f64 {
        match self {
            DeviceKind::V5e => 4.0 * 16.0 / 16.0,
            DeviceKind::V6e | DeviceKind::V7x => 2.0 * 16.0 / 8.0,
        }
    }

    /// Dense bf16 FLOP that one core can do in a cycle.
    pub fn flops_per_cycle(self) -> f64 {
        2.0 * self.rows_per_cycle() * (self.array_size() * self.array_size()) as f64
    }

    /// Copies at published bandwidth, with a latency in nanoseconds.
    pub fn dma_model(self, latency_ns: f64) -> DmaModel {
        DmaModel {
            bytes_per_cycle: self.hbm_bandwidth() / self.clock(),
            latency: latency_ns * 1e-9 * self.clock(),
        }
    }

    /// Clock in Hz that the published peak implies: 1.50e9 on v5e, 1.75e9 on v6e, 2.20e9 on v7x.
    pub fn clock(self) -> f64 {
        self.peak_flops() / self.flops_per_cycle()
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeviceKind {
    type Err = ScheduleError;

    fn from_str(s: &str) -> Result<Self, ScheduleError> {
        DeviceKind::ALL
            .into_iter()
            .find(|kind| kind.name() == s)
            .ok_or_else(|| ScheduleError::Device { name: s.to_owned() })
    }
}
