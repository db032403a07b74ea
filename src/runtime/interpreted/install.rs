use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::kernels::{self, Kernels};
use super::{text, tpu::InterpretedTpu};
use crate::runtime::error::RuntimeError;
use crate::runtime::plugin::Plugin;

/// Makes a plugin answer the custom calls of interpreted programs.
pub(in crate::runtime) fn install(plugin: &Plugin) -> Result<(), RuntimeError> {
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

/// The program with its TPU custom calls as those that [`install`] answers.
///
/// # Errors
/// A call that is not read, or a kernel that the emulator refuses.
pub(in crate::runtime) fn program(tpu: &InterpretedTpu, mlir: &str) -> Result<String, RuntimeError> {
    text::interpreted(mlir, |call| kernels::add(tpu, call))
        .map_err(|reason| RuntimeError::Interpreted { reason })
}
