//! Kernels of interpreted programs, and the calls of them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use half::bf16;
use sha2::{Digest, Sha256};

use super::text::{TARGET, TpuCall};
use super::tpu::InterpretedTpu;
use crate::emulator::{ElementType, Emulator, Operands, RunOptions, Store, Tensor, Words};
use crate::runtime::ffi::custom_call::{Answer, Call, Shape, Target};

/// A kernel that is ready to run.
struct Kernel {
    emulator: Emulator,
    aliases: Vec<(usize, usize)>,
    options: RunOptions,
}

/// By the hash of all that decides what they do: executables of a disk cache name them by it.
static KERNELS: LazyLock<Mutex<HashMap<String, Arc<Kernel>>>> = LazyLock::new(Mutex::default);

/// Takes a kernel, and says under which name it is called.
pub(super) fn add(tpu: &InterpretedTpu, call: TpuCall) -> Result<String, String> {
    let mut hash = Sha256::new();
    hash.update(format!("{tpu:?} {:?} ", call.aliases));
    hash.update(&call.text);
    let name = format!("{:x}", hash.finalize());
    let mut kernels = KERNELS.lock().unwrap_or_else(PoisonError::into_inner);
    if !kernels.contains_key(&name) {
        let emulator = Emulator::new(&call.text).map_err(|error| error.to_string())?;
        let kind = tpu.kind();
        let fits = emulator.memory().within(kind.vmem_budget(), kind.smem_budget());
        fits.map_err(|error| format!("kernel {} {error} on {kind}", emulator.name()))?;
        let options = tpu.options().clone();
        kernels.insert(name.clone(), Arc::new(Kernel { emulator, aliases: call.aliases, options }));
    }
    Ok(name)
}

/// The custom call by which a program comes here.
pub(super) struct Kernels;

impl Target for Kernels {
    const NAME: &'static str = TARGET;
    const ANSWER: Answer = run;
}

fn run(call: &Call<'_>) -> Result<(), String> {
    let name = call.text("kernel").map(String::from_utf8_lossy).ok_or("the call names no kernel")?;
    let kernel = KERNELS.lock().unwrap_or_else(PoisonError::into_inner).get(&*name).cloned();
    let kernel = kernel.ok_or("the program was loaded without its text, which its kernels are in")?;
    let in_kernel = |reason: String| format!("kernel {}: {reason}", kernel.emulator.name());
    let mut operands = Operands::new();
    for (index, shape) in call.arguments().iter().enumerate() {
        let shared =
            kernel.aliases.iter().any(|&(input, output)| input == index && call.is_shared(input, output));
        operands = operands.input(argument(call, index, shape, shared).map_err(in_kernel)?);
    }
    let results = call.results();
    for shape in &results {
        operands = operands.output(element(shape).map_err(in_kernel)?, &dims(shape));
    }
    for &(input, output) in &kernel.aliases {
        operands = operands.alias(input, output);
    }
    let outcome = kernel.emulator.run_owned(operands, &kernel.options);
    let outcome = outcome.map_err(|error| in_kernel(error.to_string()))?;
    tracing::debug!(kernel = kernel.emulator.name(), steps = outcome.report.steps, "interpreted");
    for (index, result) in outcome.outputs.iter().enumerate() {
        if kernel.aliases.iter().any(|&(input, output)| output == index && call.is_shared(input, output)) {
            continue; // written in place
        }
        match result.element_type() {
            ElementType::F32 => call.give(index, result.as_slice::<f32>().unwrap_or_default()),
            ElementType::Bf16 => call.give(index, result.as_slice::<bf16>().unwrap_or_default()),
            ElementType::I32 => call.give(index, result.as_slice::<i32>().unwrap_or_default()),
            ElementType::I16 => call.give(index, result.as_slice::<i16>().unwrap_or_default()),
            ElementType::I8 => call.give(index, result.as_slice::<i8>().unwrap_or_default()),
        }
    }
    Ok(())
}

/// An argument where it lies; what is written to it stays only where it is `shared` with a result.
fn argument(call: &Call<'_>, index: usize, shape: &Shape<'_>, shared: bool) -> Result<Tensor, String> {
    let (dims, element) = (dims(shape), element(shape)?);
    let words = match element.size() {
        1 => Words::W8(Store::Lent(Box::new(call.lend(index, shared)))),
        2 => Words::W16(Store::Lent(Box::new(call.lend(index, shared)))),
        _ => Words::W32(Store::Lent(Box::new(call.lend(index, shared)))),
    };
    Ok(Tensor::from_words(&dims, element, words))
}

fn dims(shape: &Shape<'_>) -> Vec<usize> {
    shape.dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect()
}

/// By the numbers of XLA's `PrimitiveType`.
fn element(shape: &Shape<'_>) -> Result<ElementType, String> {
    Ok(match shape.dtype {
        2 => ElementType::I8,
        3 => ElementType::I16,
        4 => ElementType::I32,
        11 => ElementType::F32,
        16 => ElementType::Bf16,
        other => return Err(format!("no kernel takes elements of XLA's type {other}")),
    })
}
