//! What a listing names: operands, values, allocations.

use std::collections::HashMap;

/// An operand as the schedule declares it.
#[derive(Clone, Debug)]
pub(in super::super) struct Operand {
    pub value: u32,
    pub index: usize,
    pub space: String,
    pub shape: String,
}

/// Numbers for the names of values and allocations.
#[derive(Default)]
pub(super) struct Names {
    values: HashMap<String, u32>,
    allocations: HashMap<String, u32>,
}

impl Names {
    pub(super) fn value(&mut self, name: &str) -> u32 {
        let next = self.values.len() as u32;
        *self.values.entry(name.to_owned()).or_insert(next)
    }

    /// An address of its own for every allocation: at most 4096 that scalars name, each of less than 2^20 words.
    pub(super) fn allocation(&mut self, name: &str) -> u32 {
        let next = self.allocations.len() as u32 + 1;
        self.allocations.entry(name.to_owned()).or_insert(next).wrapping_shl(20)
    }

    /// Values so far.
    pub(super) fn values(&self) -> usize {
        self.values.len()
    }
}
