use crate::emulator::RunOptions;
use crate::kernels::TpuKind;
use crate::runtime::error::RuntimeError;

/// A TPU that is interpreted, for [`ClientOptions::interpreted_tpu`](crate::runtime::ClientOptions::interpreted_tpu).
///
/// A client of a CPU plugin then takes programs for TPUs of this kind: tables of block sizes, memory budgets and limits are
/// its, and every `tpu_custom_call` is executed by the [`emulator`](crate::emulator) on the program's own operands, wherever it
/// stands in the program. Everything else is compiled and run by the plugin. What the emulator finds wrong (a race, an access out
/// of bounds, a semaphore that nobody signals, memory that nothing has written, a kernel beyond the device's memories) fails
/// compilation or that execution with the words of kernel, line and op; the next execution works.
#[derive(Clone, Debug, PartialEq)]
pub struct InterpretedTpu {
    kind: TpuKind,
    options: RunOptions,
}

impl InterpretedTpu {
    /// A TPU of this kind, with the emulator's default policies.
    pub fn new(kind: TpuKind) -> Self {
        InterpretedTpu { kind, options: RunOptions::default().max_steps(u64::MAX) }
    }

    /// Environment variable that names a kind of TPU to interpret, such as `v6e`.
    pub const ENV: &str = "TPU_RPA_INTERPRET_TPU";

    /// The TPU that [`ENV`](Self::ENV) asks for, if it is set and not empty.
    ///
    /// # Errors
    /// It names no kind of TPU.
    pub fn from_env() -> Result<Option<Self>, RuntimeError> {
        let named = std::env::var(Self::ENV).unwrap_or_default();
        if named.is_empty() {
            return Ok(None);
        }
        match TpuKind::of_device(&named) {
            Some(kind) => Ok(Some(Self::new(kind))),
            None => Err(RuntimeError::TpuKind { variable: Self::ENV, value: named }),
        }
    }

    /// With other policies: when DMAs complete, in which order grids and sums are, how many ops a kernel may execute.
    pub fn with_options(self, options: RunOptions) -> Self {
        InterpretedTpu { options, ..self }
    }

    /// The kind of device that stands in the place of the plugin's.
    pub fn kind(&self) -> TpuKind {
        self.kind
    }

    /// How kernels are executed.
    pub fn options(&self) -> &RunOptions {
        &self.options
    }
}
