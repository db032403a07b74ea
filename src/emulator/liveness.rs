//! Which ops the compiler would drop, and which op uses a value last.

use super::text::ast::{Block, Op};
use std::collections::HashSet;

type Uses<'t> = HashSet<(&'t str, usize)>;

/// Marks dead ops and last uses in a block and all blocks inside it, and returns what its live ops use from outside.
///
/// Lowered texts load before each store and drop the result; such a load never happens on the device, so it must
/// not count as a read here.
pub(super) fn mark<'t>(block: &mut Block<'t>) -> Uses<'t> {
    let defined: HashSet<&str> = block
        .arguments
        .iter()
        .map(|(name, _)| name.name)
        .chain(block.ops.iter().flat_map(|op| op.results.iter().map(|(name, _)| name.name)))
        .collect();
    let mut later = Uses::new();
    for op in block.ops.iter_mut().rev() {
        op.dead = is_pure(op)
            && !op.results.iter().any(|(name, n)| (0..*n).any(|part| later.contains(&(name.name, part))));
        if op.dead {
            op.last_use = vec![false; op.operands.len()];
            continue;
        }
        for region in &mut op.regions {
            later.extend(mark(region));
        }
        op.last_use = vec![false; op.operands.len()];
        // From the back, so that of `addf %a, %a` only the second use is the last.
        for (i, value) in op.operands.iter().enumerate().rev() {
            let first_seen = later.insert((value.name, value.part));
            op.last_use[i] = first_seen && defined.contains(value.name);
        }
    }
    later.retain(|(name, _)| !defined.contains(name));
    later
}

/// Ops without an effect. `tpu.assume_multiple` is a check but guards only its own result.
fn is_pure(op: &Op<'_>) -> bool {
    let dialect = op.name.split('.').next().unwrap_or_default();
    match dialect {
        "arith" | "math" => true,
        "vector" => op.name != "vector.store",
        "memref" => op.name != "memref.store",
        "tpu" => matches!(
            op.name,
            "tpu.strided_load"
                | "tpu.vector_load"
                | "tpu.iota"
                | "tpu.transpose"
                | "tpu.concatenate"
                | "tpu.rotate"
                | "tpu.dynamic_rotate"
                | "tpu.dynamic_gather"
                | "tpu.repeat"
                | "tpu.reciprocal"
                | "tpu.bitcast"
                | "tpu.reduce_index"
                | "tpu.memref_squeeze"
                | "tpu.memref_reshape"
                | "tpu.memref_bitcast"
                | "tpu.memref_slice"
                | "tpu.matmul"
                | "tpu.assume_multiple"
                | "tpu.sem_read"
        ),
        _ => false,
    }
}
