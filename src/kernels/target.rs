use std::fmt;

use crate::batch::Tiling;

/// Whose compiler a function is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Any PJRT backend: StableHLO alone.
    Portable,
    /// TPU: StableHLO around a Mosaic custom call.
    Tpu,
}

impl Target {
    /// The target whose attention takes plans of a tiling.
    pub fn of(tiling: &Tiling) -> Self {
        match tiling {
            Tiling::Portable(_) => Target::Portable,
            Tiling::Tpu(_) => Target::Tpu,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::Portable => "portable",
            Target::Tpu => "TPU",
        })
    }
}
