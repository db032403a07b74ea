//! Reads `*-packed-bundles-post-ra.txt`: one line per issue slot, empty stall slots included, before the pass that
//! folds those into delay fields.

mod instruction;
mod names;
mod text;

pub(super) use instruction::{Alu, Arg, Compare, Instruction, Logic, Op, Term, Transfer};
pub(super) use names::Operand;

use super::ScheduleError;
use names::Names;

/// What an instruction of a schedule is worth knowing for besides executing it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VectorOps {
    /// Base-2 exponentials of a vector register.
    pub exp2: u32,
    /// Matrix multiplies issued.
    pub matmul: u32,
}

/// One issue slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Bundle {
    /// Scalar side, in an order in which values are defined before use; phis first.
    pub instructions: Vec<Instruction>,
    pub vector: VectorOps,
}

/// A schedule as a program.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub bundles: Vec<Bundle>,
    /// Values that instructions name; they are numbered.
    pub values: usize,
    /// Operands of the kernel: index in the call, memory space, shape such as `s32[8,128]`.
    pub operands: Vec<Operand>,
    /// Slots executed after a branch before it takes effect.
    pub delay_slots: usize,
}

pub(super) const FILE: &str = "packed-bundles-post-ra";

impl Listing {
    /// Reads the text.
    ///
    /// # Errors
    /// A line that is no issue slot, or out of order.
    pub(super) fn parse(text: &str, delay_slots: usize) -> Result<Self, ScheduleError> {
        let mut names = Names::default();
        let mut listing = Listing { bundles: Vec::new(), values: 0, operands: Vec::new(), delay_slots };
        let text = text::without_comments(text);
        for (number, line) in text.lines().enumerate() {
            let error = |reason: String| ScheduleError::Listing {
                file: FILE,
                line: number + 1,
                reason,
                text: line.chars().take(200).collect(),
            };
            let Some((address, body)) = text::slot(line) else { continue };
            if address != listing.bundles.len() {
                return Err(error(format!(
                    "slot {address:#x} where {:#x} comes next",
                    listing.bundles.len()
                )));
            }
            let mut bundle = Bundle::default();
            for instruction in body.split(";;").map(str::trim).filter(|i| !i.is_empty()) {
                let parsed =
                    instruction::parse(instruction, &mut names, &mut listing.operands).map_err(&error)?;
                bundle.vector.exp2 += u32::from(parsed.exp2);
                bundle.vector.matmul += u32::from(parsed.matmul);
                bundle.instructions.extend(parsed.scalar);
            }
            bundle.order();
            listing.bundles.push(bundle);
        }
        if listing.bundles.is_empty() {
            return Err(ScheduleError::Listing {
                file: FILE,
                line: 0,
                reason: "no issue slot".to_owned(),
                text: String::new(),
            });
        }
        listing.values = names.values();
        Ok(listing)
    }
}

impl Bundle {
    /// Slots of a bundle issue together, yet the listing writes pseudo ops (`int_to_ptr`) beside what they rename, and
    /// phis last.
    fn order(&mut self) {
        if self.instructions.len() < 2 {
            return;
        }
        let mut rest = std::mem::take(&mut self.instructions);
        rest.sort_by_key(|i| !matches!(i.op, Op::Phi));
        while !rest.is_empty() {
            let ready = rest.iter().position(|i| {
                matches!(i.op, Op::Phi)
                    || !rest.iter().any(|j| j.result.is_some_and(|r| j != i && i.reads(r)))
            });
            self.instructions.push(rest.remove(ready.unwrap_or(0)));
        }
    }
}
