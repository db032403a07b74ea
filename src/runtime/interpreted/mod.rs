//! A TPU that is interpreted: programs run on a CPU plugin, their Mosaic kernels in the emulator.

mod kernels;
mod program;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::error::RuntimeError;
use super::plugin::Plugin;
use crate::emulator::RunOptions;
use crate::kernels::TpuKind;
use kernels::Kernels;

/// A TPU that is interpreted, for [`ClientOptions::interpreted_tpu`](super::ClientOptions::interpreted_tpu).
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

    /// Makes a plugin answer the custom calls of interpreted programs.
    pub(super) fn install(&self, plugin: &Plugin) -> Result<(), RuntimeError> {
        static INSTALLED: Mutex<Option<HashSet<usize>>> = Mutex::new(None);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        let installed = installed.get_or_insert_default();
        let no = |reason: String| RuntimeError::NoInterpreter { path: plugin.path().into(), reason };
        if !plugin.is_cpu() {
            return Err(no("it is no CPU plugin".to_owned()));
        }
        let table = plugin.table();
        if !installed.contains(&std::ptr::from_ref(table).addr()) {
            table.answer_calls::<Kernels>().map_err(|error| no(error.to_string()))?;
            installed.insert(std::ptr::from_ref(table).addr());
        }
        Ok(())
    }

    /// The program with its TPU custom calls as those that [`install`](Self::install) answers.
    ///
    /// # Errors
    /// A call that is not read, or a kernel that the emulator refuses.
    pub(super) fn program(&self, mlir: &str) -> Result<String, RuntimeError> {
        program::interpreted(mlir, |call| kernels::add(self, call))
            .map_err(|reason| RuntimeError::Interpreted { reason })
    }
}
