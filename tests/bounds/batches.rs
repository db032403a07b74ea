use proptest::prelude::*;
use tpu_rpa::batch::{Planner, Tiling};
use tpu_rpa::mask::{self, Query};

use crate::{MOST, edge, tells};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn batches(
        sizes in prop::array::uniform4(edge()),
        (page_size, pool_pages) in (edge(), edge()),
        groups in prop::collection::vec((edge(), edge()), 0..6),
        (keys, window) in any::<([i64; 2], u32)>(),
    ) {
        let [q, kv, own, block] = sizes;
        match Tiling::tpu(q, kv, own, page_size) {
            Ok(tiling) => {
                prop_assert_eq!((tiling.sizes().q_tile(), tiling.sizes().kv_tile()), (q, kv));
                match tiling.with_row_block(block) {
                    Ok(tiling) => prop_assert!(tiling.row_block() == block && q.is_multiple_of(block)),
                    Err(error) => tells(&error, &[block]),
                }
            }
            Err(error) => tells(&error, &[q, kv, own]),
        }
        let tiling = Tiling::portable(64, 64, 32, 16).unwrap();
        match Planner::new(page_size, pool_pages, tiling) {
            Ok(_) => prop_assert!(page_size as u128 * pool_pages as u128 <= MOST),
            Err(error) => tells(&error, &[page_size, pool_pages]),
        }

        let exact = |sizes: &[usize]| sizes.iter().map(|&n| n as u128).sum::<u128>().min(usize::MAX as u128);
        let (starts, end) = Planner::new(16, 8, tiling).unwrap().with_gaps().starts(&groups);
        let tokens: Vec<usize> = groups.iter().map(|group| group.0).collect();
        for (n, at) in starts.into_iter().chain([end]).enumerate() {
            prop_assert_eq!(at as u128, exact(&tokens[..n]));
        }

        let [prefix, lead, offset, _] = sizes;
        let position = mask::position(prefix, lead, Query { segment: 1, offset }, true);
        prop_assert_eq!(position as u128, exact(&[prefix, lead, offset]));
        let near = i128::from(keys[0]) - i128::from(keys[1]) < i128::from(window);
        prop_assert_eq!(mask::in_window(keys[0], keys[1], Some(window)), near);
    }
}
