use super::store::Store;
use super::view::Run;
use crate::emulator::types::Elem;

/// Elements by their width. What the bits mean is the view's affair.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Words {
    W8(Store<u8>),
    W16(Store<u16>),
    W32(Store<u32>),
    /// Counts of semaphores.
    Semaphores(Vec<i64>),
}

impl Words {
    /// What memory holds before anything is written: NaN for floats, a recognisable pattern for integers.
    pub(crate) fn poison(elem: Elem, len: usize) -> Words {
        match elem {
            Elem::F32 => Words::W32(vec![f32::NAN.to_bits(); len].into()),
            Elem::Bf16 => Words::W16(vec![0x7FC0; len].into()),
            Elem::I32 | Elem::Index => Words::W32(vec![0xA5A5_A5A5; len].into()),
            Elem::I16 => Words::W16(vec![0xA5A5; len].into()),
            Elem::I8 | Elem::I1 => Words::W8(vec![0xA5; len].into()),
            Elem::DmaSemaphore | Elem::Semaphore => Words::Semaphores(vec![0; len]),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Words::W8(w) => w.len(),
            Words::W16(w) => w.len(),
            Words::W32(w) => w.len(),
            Words::Semaphores(w) => w.len(),
        }
    }

    /// Takes them out where they are lent, else a clone: memory of others is not copied for a result.
    #[cfg(in_library)]
    pub(crate) fn hand_out(&mut self) -> Words {
        let lent = match self {
            Words::W8(w) => matches!(w, Store::Lent(_)),
            Words::W16(w) => matches!(w, Store::Lent(_)),
            Words::W32(w) => matches!(w, Store::Lent(_)),
            Words::Semaphores(_) => false,
        };
        if lent { std::mem::replace(self, Words::Semaphores(Vec::new())) } else { self.clone() }
    }

    /// Copies runs of equal length; both arrays have the same width.
    pub(crate) fn copy(&mut self, to: Run, from: &Words, start: usize) {
        let (a, b) = (to.start..to.start + to.len, start..start + to.len);
        match (self, from) {
            (Words::W8(d), Words::W8(s)) => d.make_mut()[a].copy_from_slice(&s[b]),
            (Words::W16(d), Words::W16(s)) => d.make_mut()[a].copy_from_slice(&s[b]),
            (Words::W32(d), Words::W32(s)) => d.make_mut()[a].copy_from_slice(&s[b]),
            _ => {}
        }
    }
}

/// What a buffer is to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Device memory of an operand or result.
    Hbm,
    /// VMEM or SMEM that holds an input.
    Input,
    /// VMEM or SMEM that holds an output until it is written back.
    Output,
    Scratch,
}

/// One allocation.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    pub(crate) words: Words,
    pub(crate) elem: Elem,
    pub(crate) role: Role,
    /// The argument it belongs to, for messages.
    pub(crate) name: String,
    /// Elements that were never written, a bit each; absent when there are none.
    unwritten: Option<Unwritten>,
}

#[derive(Clone, Debug)]
struct Unwritten {
    bits: Vec<u64>,
    count: usize,
}

impl Buffer {
    /// Memory that nothing has written.
    pub(crate) fn uninitialised(name: &str, elem: Elem, len: usize, role: Role) -> Buffer {
        let mut buffer =
            Buffer { words: Words::poison(elem, len), elem, role, name: name.to_owned(), unwritten: None };
        if !elem.is_semaphore() {
            buffer.forget();
        }
        buffer
    }

    /// Memory with content.
    pub(crate) fn filled(name: &str, elem: Elem, words: Words, role: Role) -> Buffer {
        Buffer { words, elem, role, name: name.to_owned(), unwritten: None }
    }

    /// Makes everything unwritten again.
    pub(crate) fn forget(&mut self) {
        let len = self.words.len();
        let mut bits = vec![u64::MAX; len.div_ceil(64)];
        if let (Some(last), rest @ 1..) = (bits.last_mut(), len % 64) {
            *last = (1 << rest) - 1;
        }
        self.unwritten = Some(Unwritten { bits, count: len });
        // What was there must not be read by accident.
        self.words = Words::poison(self.elem, len);
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.unwritten.is_none()
    }

    pub(crate) fn unwritten(&self) -> usize {
        self.unwritten.as_ref().map_or(0, |u| u.count)
    }

    pub(crate) fn mark_written(&mut self, run: Run) {
        let Some(unwritten) = &mut self.unwritten else { return };
        for (word, mask) in masks(run) {
            let hit = unwritten.bits[word] & mask;
            unwritten.bits[word] &= !mask;
            unwritten.count -= hit.count_ones() as usize;
        }
        if unwritten.count == 0 {
            self.unwritten = None;
        }
    }

    pub(crate) fn mark_unwritten(&mut self, run: Run) {
        let words = self.words.len().div_ceil(64);
        let unwritten = self.unwritten.get_or_insert_with(|| Unwritten { bits: vec![0; words], count: 0 });
        for (word, mask) in masks(run) {
            unwritten.count += (mask & !unwritten.bits[word]).count_ones() as usize;
            unwritten.bits[word] |= mask;
        }
    }

    /// First element of a run that was never written.
    pub(crate) fn first_unwritten(&self, run: Run) -> Option<usize> {
        let unwritten = self.unwritten.as_ref()?;
        masks(run).find_map(|(word, mask)| {
            let hit = unwritten.bits[word] & mask;
            (hit != 0).then(|| word * 64 + hit.trailing_zeros() as usize)
        })
    }
}

/// The words of a bit set that a run touches, with the bits touched.
fn masks(run: Run) -> impl Iterator<Item = (usize, u64)> {
    let end = run.start + run.len;
    (run.start / 64..end.div_ceil(64)).map(move |word| {
        let low = run.start.saturating_sub(word * 64);
        let high = (end - word * 64).min(64);
        let below = if high == 64 { u64::MAX } else { (1 << high) - 1 };
        (word, below & (u64::MAX << low))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_runs_are_remembered() {
        let mut b = Buffer::uninitialised("b", Elem::F32, 200, Role::Scratch);
        b.mark_written(Run { start: 3, len: 130 });
        assert_eq!(b.first_unwritten(Run { start: 3, len: 130 }), None);
        assert_eq!(b.first_unwritten(Run { start: 10, len: 150 }), Some(133));
        assert_eq!(b.unwritten(), 70);
        b.mark_written(Run { start: 0, len: 200 });
        assert!(b.is_complete());
        b.mark_unwritten(Run { start: 64, len: 1 });
        assert_eq!(b.first_unwritten(Run { start: 0, len: 200 }), Some(64));
    }
}
