//! The ops: for each its typing rules and what it computes.

mod access;
mod cast;
mod compare;
mod constant;
mod control;
mod dma;
mod elements;
mod elementwise;
mod float;
mod int;
mod lanes;
mod load_store;
mod math;
mod matmul;
mod pair;
mod reduce;
mod select;
mod shape;
mod views;

use super::builder::{Builder, Built};
use super::error::EmulatorError;
use super::text::ast::Op;

pub(crate) use control::LOOPS;

/// Verifies an op and compiles it.
pub(crate) fn build<'t>(b: &mut Builder<'_, 't>, op: &Op<'t>, site: usize) -> Built {
    match op.name {
        "arith.constant" => constant::build(b, op),
        "arith.cmpi" | "arith.cmpf" => compare::build(b, op),
        "arith.select" => select::build(b, op),
        "arith.extf" | "arith.truncf" | "arith.extsi" | "arith.extui" | "arith.trunci" | "arith.sitofp"
        | "arith.uitofp" | "arith.fptosi" | "arith.index_cast" | "arith.index_castui" => cast::build(b, op),
        "arith.bitcast" | "tpu.bitcast" => cast::bitcast(b, op),
        "tpu.reciprocal" => float::reciprocal(b, op),
        "tpu.assume_multiple" => int::assume_multiple(b, op),
        "vector.broadcast" => shape::broadcast(b, op),
        "vector.shape_cast" => shape::shape_cast(b, op),
        "vector.extract" => shape::extract(b, op),
        "vector.extract_strided_slice" => shape::slice(b, op),
        "vector.insert_strided_slice" => shape::insert(b, op),
        "vector.transpose" | "tpu.transpose" => shape::transpose(b, op),
        "tpu.concatenate" => shape::concatenate(b, op),
        "tpu.iota" => shape::iota(b, op),
        "tpu.rotate" | "tpu.dynamic_rotate" => shape::rotate(b, op),
        "tpu.dynamic_gather" => shape::gather(b, op),
        "tpu.repeat" => shape::repeat(b, op),
        "vector.multi_reduction" => reduce::multi_reduction(b, op),
        "tpu.reduce_index" => reduce::reduce_index(b, op),
        "tpu.matmul" => matmul::build(b, op),
        "vector.load" | "tpu.vector_load" | "tpu.strided_load" => load_store::vector_load(b, op),
        "vector.store" | "tpu.vector_store" | "tpu.strided_store" => load_store::vector_store(b, op),
        "memref.load" => load_store::scalar_load(b, op),
        "memref.store" => load_store::scalar_store(b, op),
        "memref.alloca" => views::alloca(b, op),
        "tpu.memref_slice" => views::slice(b, op),
        "tpu.memref_squeeze" => views::squeeze(b, op),
        "tpu.memref_reshape" => views::reshape(b, op),
        "tpu.memref_bitcast" => views::bitcast(b, op),
        "tpu.enqueue_dma" => dma::enqueue(b, op),
        "tpu.wait_dma2" | "tpu.wait_dma" => dma::wait(b, op),
        "tpu.sem_signal" | "tpu.sem_wait" => dma::semaphore(b, op),
        "tpu.sem_read" => dma::read_semaphore(b, op),
        "tpu.trace_start" | "tpu.trace_stop" => control::trace(b, op),
        "scf.for" => control::for_loop(b, op, site),
        "scf.while" => control::while_loop(b, op, site),
        "scf.if" => control::if_else(b, op),
        "call" | "func.call" => control::call(b, op),
        "return" | "func.return" | "scf.yield" | "scf.condition" => {
            Err(EmulatorError::verify(op.location, op.name, "does not end this kind of block"))
        }
        name if name.starts_with("arith.") || name.starts_with("math.") => elementwise::build(b, op),
        name => Err(EmulatorError::UnknownOp { location: op.location, op: name.to_owned() }),
    }
}

/// Ops with a pretty form of their own, which the table of formats does not list.
const SPECIAL: [&str; 15] = [
    "arith.constant",
    "arith.select",
    "vector.multi_reduction",
    "vector.extract",
    "vector.extract_strided_slice",
    "vector.insert_strided_slice",
    "tpu.vector_store",
    "tpu.vector_load",
    "tpu.enqueue_dma",
    "tpu.wait_dma2",
    "tpu.wait_dma",
    "scf.for",
    "scf.while",
    "scf.if",
    "func.call",
];

/// Ops that exist in generic form only.
const GENERIC: [&str; 2] = ["tpu.trace_start", "tpu.trace_stop"];

pub(crate) fn supported() -> Vec<&'static str> {
    let table = super::text::SIMPLE_OPS.iter().map(|(name, _)| *name);
    let mut all: Vec<&str> = table.chain(SPECIAL).chain(GENERIC).collect();
    all.sort_unstable();
    all
}
