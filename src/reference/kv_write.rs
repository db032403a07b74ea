use ndarray::{ArrayView3, ArrayViewMut5, s};

/// Writes row `t` of `k` and `v` (`[T, kv_heads, head_dim]`) to slot `slots[t]` of `kv_pages`
/// (`[pages, 2, kv_heads, page_size, head_dim]`); a slot is `page * page_size + offset`, -1 writes nothing.
pub fn kv_write<E: Copy>(
    k: ArrayView3<'_, E>,
    v: ArrayView3<'_, E>,
    slots: &[i32],
    mut kv_pages: ArrayViewMut5<'_, E>,
) {
    let page_size = kv_pages.dim().3;
    for (row, &slot) in slots.iter().enumerate() {
        if slot == -1 {
            continue;
        }
        let (page, offset) = (slot as usize / page_size, slot as usize % page_size);
        kv_pages.slice_mut(s![page, 0, .., offset, ..]).assign(&k.slice(s![row, .., ..]));
        kv_pages.slice_mut(s![page, 1, .., offset, ..]).assign(&v.slice(s![row, .., ..]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, Array5};

    #[test]
    fn writes_named_slots_only() {
        let k = Array3::from_shape_fn((3, 2, 4), |(t, h, d)| (100 * t + 10 * h + d) as f32);
        let v = k.mapv(|x| -x);
        let mut pages = Array5::from_elem((2, 2, 2, 8, 4), 7.0);
        kv_write(k.view(), v.view(), &[9, -1, 7], pages.view_mut());
        assert_eq!(pages[[1, 0, 1, 1, 3]], 13.0);
        assert_eq!(pages[[1, 1, 1, 1, 3]], -13.0);
        assert_eq!(pages[[0, 0, 0, 7, 2]], 202.0);
        assert_eq!(pages.iter().filter(|&&x| x != 7.0).count(), 2 * 2 * 2 * 4);
    }
}
