use std::fmt;

use super::{SMEM_LIMIT, VMEM_LIMIT};

/// A kind of TPU that kernels are compiled for ahead of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TpuKind {
    /// TPU v5e.
    V5e,
    /// TPU v6e.
    V6e,
    /// TPU v7x, Ironwood.
    V7x,
}

impl TpuKind {
    /// All of them.
    pub const ALL: [TpuKind; 3] = [TpuKind::V5e, TpuKind::V6e, TpuKind::V7x];

    /// The kind that a PJRT device or topology calls itself: `TPU v5 lite`, `TPU v6 lite`, `TPU7x`, or the short name.
    pub fn of_device(kind: &str) -> Option<TpuKind> {
        match kind.strip_prefix("TPU").unwrap_or(kind).trim() {
            "v5 lite" | "v5e" => Some(TpuKind::V5e),
            "v6 lite" | "v6e" => Some(TpuKind::V6e),
            "7x" | "v7x" => Some(TpuKind::V7x),
            _ => None,
        }
    }

    /// What a PJRT device of this kind calls itself.
    pub fn device_kind(self) -> &'static str {
        match self {
            TpuKind::V5e => "TPU v5 lite",
            TpuKind::V6e => "TPU v6 lite",
            TpuKind::V7x => "TPU7x",
        }
    }

    /// Smallest topology that libtpu compiles for.
    pub fn topology(self) -> &'static str {
        match self {
            TpuKind::V5e => "v5e:2x2",
            TpuKind::V6e => "v6e:2x2",
            TpuKind::V7x => "tpu7x:2x2x1",
        }
    }

    /// VMEM of a core in bytes, as the compiler (libtpu 0.0.52) reports it. It keeps less than 100 KiB for itself.
    pub fn vmem_bytes(self) -> usize {
        match self {
            TpuKind::V5e | TpuKind::V6e => 128 << 20,
            TpuKind::V7x => 64 << 20,
        }
    }

    /// SMEM of a core in bytes, as the compiler (libtpu 0.0.52) reports it. It keeps about 2 KiB for itself.
    pub fn smem_bytes(self) -> usize {
        1 << 20
    }

    /// VMEM that our kernels may declare on it, in bytes: what they ask the compiler for. Its temporaries and spilled
    /// registers are to fit in too.
    pub fn vmem_budget(self) -> usize {
        VMEM_LIMIT.min(self.vmem_bytes())
    }

    /// SMEM that our kernels may declare on it, in bytes.
    pub fn smem_budget(self) -> usize {
        SMEM_LIMIT.min(self.smem_bytes())
    }
}

impl fmt::Display for TpuKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TpuKind::V5e => "v5e",
            TpuKind::V6e => "v6e",
            TpuKind::V7x => "v7x",
        })
    }
}
