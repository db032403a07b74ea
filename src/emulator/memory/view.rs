use crate::emulator::types::{Elem, strides};

/// A strided window into a buffer, counted in the buffer's elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) buffer: usize,
    pub(crate) offset: usize,
    /// Size and stride of every dimension.
    pub(crate) dims: Vec<(usize, usize)>,
    pub(crate) elem: Elem,
    /// After `memref_bitcast` to a wider type: how many buffer elements make one, and their distance.
    pub(crate) pack: Option<(usize, usize)>,
}

/// Consecutive elements of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl View {
    /// A view of a whole row-major buffer.
    pub(crate) fn whole(buffer: usize, shape: &[usize], elem: Elem) -> View {
        let dims = shape.iter().copied().zip(strides(shape)).collect();
        View { buffer, offset: 0, dims, elem, pack: None }
    }

    pub(crate) fn volume(&self) -> usize {
        self.dims.iter().map(|d| d.0).product()
    }

    /// Bytes of the elements seen.
    pub(crate) fn bytes(&self) -> usize {
        self.volume() * self.elem.bytes()
    }

    /// A box at `start` with `sizes` and element steps; `Err` names the dimension that does not fit.
    pub(crate) fn slice(&self, start: &[i64], sizes: &[usize], steps: &[usize]) -> Result<View, usize> {
        // A box of lower rank takes one element of the leading dimensions.
        let leading = self.dims.len() - sizes.len();
        let mut out = View { dims: Vec::with_capacity(sizes.len()), ..self.clone() };
        for (d, &(size, stride)) in self.dims.iter().enumerate() {
            let (want, step) = if d < leading { (1, 1) } else { (sizes[d - leading], steps[d - leading]) };
            let first = usize::try_from(start[d]).map_err(|_| d)?;
            let last = first.checked_add((want - 1) * step).ok_or(d)?;
            if last >= size {
                return Err(d);
            }
            out.offset += first * stride;
            if d >= leading {
                out.dims.push((want, step * stride));
            }
        }
        Ok(out)
    }

    /// Whether the elements lie without gaps in row-major order.
    pub(crate) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.pack.is_none()
            && self.dims.iter().rev().all(|&(size, stride)| {
                let fits = size == 1 || stride == expected;
                expected *= size;
                fits
            })
    }

    /// Calls `f` for every run of consecutive elements, in row-major order of the view. Not for packed views.
    pub(crate) fn for_each_run(&self, mut f: impl FnMut(Run)) {
        // Inner dimensions that continue each other make one run.
        let mut len = 1;
        let mut outer = self.dims.len();
        while outer > 0 && (self.dims[outer - 1].0 == 1 || self.dims[outer - 1].1 == len) {
            len *= self.dims[outer - 1].0;
            outer -= 1;
        }
        let outer = &self.dims[..outer];
        let mut index = vec![0usize; outer.len()];
        let mut start = self.offset;
        loop {
            f(Run { start, len });
            let mut d = outer.len();
            loop {
                if d == 0 {
                    return;
                }
                d -= 1;
                let (size, stride) = outer[d];
                index[d] += 1;
                start += stride;
                if index[d] < size {
                    break;
                }
                start -= stride * size;
                index[d] = 0;
            }
        }
    }

    /// The runs of all buffer elements under the view, ascending and merged.
    pub(crate) fn footprint(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut flat = self.clone();
        if let Some(pack) = self.pack {
            flat.dims.push(pack);
            flat.pack = None;
        }
        let mut sorted = true;
        flat.for_each_run(|run| match runs.last_mut() {
            Some(last) if last.start + last.len == run.start => last.len += run.len,
            last => {
                sorted &= last.is_none_or(|l| l.start < run.start);
                runs.push(run);
            }
        });
        if !sorted {
            runs.sort_by_key(|r| r.start);
        }
        runs
    }
}

/// First element that two ascending lists of runs share.
pub(crate) fn overlap(a: &[Run], b: &[Run]) -> Option<usize> {
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x.start + x.len <= y.start {
            i += 1;
        } else if y.start + y.len <= x.start {
            j += 1;
        } else {
            return Some(x.start.max(y.start));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_merge_inner_dimensions() {
        let whole = View::whole(0, &[2, 8, 4], Elem::F32);
        assert_eq!(whole.footprint(), [Run { start: 0, len: 64 }]);
        let rows = whole.slice(&[0, 2, 0], &[2, 3, 4], &[1; 3]).unwrap();
        assert_eq!(rows.footprint(), [Run { start: 8, len: 12 }, Run { start: 40, len: 12 }]);
        assert_eq!(whole.slice(&[0, 6, 0], &[2, 3, 4], &[1; 3]), Err(1));
        let odd = whole.slice(&[1, 1, 0], &[1, 4, 4], &[1, 2, 1]).unwrap();
        assert_eq!(odd.footprint().len(), 4);
        assert!(!odd.is_contiguous());
    }

    #[test]
    fn overlap_is_exact() {
        let a = [Run { start: 0, len: 4 }, Run { start: 10, len: 2 }];
        assert_eq!(overlap(&a, &[Run { start: 4, len: 6 }]), None);
        assert_eq!(overlap(&a, &[Run { start: 4, len: 7 }]), Some(10));
    }
}
