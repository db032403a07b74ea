use std::fmt;

/// Something that a plugin offers beyond the function table of the C API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extension(pub(super) u32);

impl Extension {
    /// Names of `PJRT_Extension_Type` in `pjrt_c_api.h`, by value.
    const NAMES: [&'static str; 23] = [
        "Gpu_Custom_Call",
        "Profiler",
        "Custom_Partitioner",
        "Stream",
        "Layouts",
        "FFI",
        "MemoryDescriptions",
        "Triton",
        "RawBuffer",
        "PhaseCompile",
        "Example",
        "Unknown",
        "CrossHostTransfers",
        "ExecutableMetadata",
        "Callback",
        "HostAllocator",
        "TpuTopology",
        "TpuExecutable",
        "Megascale",
        "Shardings",
        "AbiVersion",
        "Collectives",
        "MultiSlice",
    ];

    /// The value of `PJRT_Extension_Type`.
    pub fn code(self) -> u32 {
        self.0
    }

    /// The header's name for it; none for one that is newer than this crate.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.get(usize::try_from(self.0).ok()?).copied()
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}
