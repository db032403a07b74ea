use super::Emulator;
use super::signature::Argument;
use super::types::Space;

/// On-chip memory that a kernel declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUse {
    /// VMEM of windows, pipelined ones twice, in bytes.
    pub vmem_windows: usize,
    /// VMEM of scratch, in bytes.
    pub vmem_scratch: usize,
    /// SMEM of prefetch operands, windows and scratch, in bytes.
    pub smem: usize,
    /// Semaphores.
    pub semaphores: usize,
}

impl MemoryUse {
    /// All VMEM, in bytes.
    pub fn vmem(&self) -> usize {
        self.vmem_windows + self.vmem_scratch
    }

    /// Refuses a kernel that declares more than these bytes of either memory.
    pub fn within(&self, vmem: usize, smem: usize) -> std::result::Result<(), OverBudget> {
        for (memory, bytes, bound) in [("VMEM", self.vmem(), vmem), ("SMEM", self.smem, smem)] {
            if bytes > bound {
                return Err(OverBudget { memory, bytes, bound });
            }
        }
        Ok(())
    }
}

/// A kernel declares more of a memory than there is for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("declares {bytes} bytes of {memory}; at most {bound} are there")]
pub struct OverBudget {
    /// `VMEM` or `SMEM`.
    pub memory: &'static str,
    /// Bytes declared.
    pub bytes: usize,
    /// Bytes there are.
    pub bound: usize,
}

/// Bytes with the last two dimensions padded to whole native tiles of 8 rows and 128 lanes, which is how VMEM holds an
/// array of any element size.
fn padded(a: &Argument) -> usize {
    let bytes = a.elem.bytes();
    let (rows, lanes) = match a.shape.as_slice() {
        [] => (1, 1),
        [n] => (1, *n),
        [.., r, l] => (*r, *l),
    };
    let leading: usize = a.shape.iter().rev().skip(2).product();
    leading
        .saturating_mul(rows.next_multiple_of(8))
        .saturating_mul(lanes.next_multiple_of(128))
        .saturating_mul(bytes)
}

impl Emulator {
    /// On-chip memory that the text declares: windows, scratch and prefetch operands. The compiler's own spills and
    /// temporaries come on top.
    pub fn memory(&self) -> MemoryUse {
        let s = &self.signature;
        let mut used = MemoryUse::default();
        let windows = s.operands.iter().zip(&s.windows).filter_map(|(a, w)| Some((a, w.as_ref()?)));
        for (a, window) in windows {
            let copies = if window.double_buffered { 2 } else { 1 };
            match a.space {
                Space::Vmem => used.vmem_windows += copies * padded(a),
                _ => used.smem += copies * a.elem.bytes() * a.shape.iter().product::<usize>(),
            }
        }
        for a in s.scratch.iter().chain(s.allocas.iter().map(|(_, a)| a)).chain(&s.prefetch) {
            let elements: usize = a.shape.iter().product();
            match a.space {
                Space::Vmem => used.vmem_scratch += padded(a),
                Space::Semaphore => used.semaphores += elements,
                _ => used.smem += a.elem.bytes() * elements,
            }
        }
        used
    }
}
