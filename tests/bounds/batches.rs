use proptest::prelude::*;
use tpu_rpa::batch::{Planner, Tiling};
use tpu_rpa::mask::{self, Query};

use crate::{MOST, edge, tells};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn tilings_and_planners(sizes in prop::array::uniform4(edge()), page_size in edge(), pool_pages in edge()) {
        let [q, kv, own, block] = sizes;
        match Tiling::tpu(q, kv, own, page_size) {
            Ok(tiling) => {
                prop_assert_eq!((Tiling::from(tiling).q_tile(), tiling.sizes().kv_tile()), (q, kv));
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
    }

    #[test]
    fn starts_are_sums(groups in prop::collection::vec((edge(), edge()), 0..6)) {
        let tiling = Tiling::portable(64, 64, 32, 16).unwrap();
        let (starts, end) = Planner::new(16, 8, tiling).unwrap().with_gaps().starts(&groups);
        let exact = |n: usize| groups[..n].iter().map(|group| group.0 as u128).sum::<u128>();
        for (n, at) in starts.into_iter().chain([end]).enumerate() {
            prop_assert_eq!(at as u128, exact(n).min(usize::MAX as u128));
        }
    }

    #[test]
    fn positions_and_windows(prefix in edge(), lead in edge(), offset in edge(), keys in any::<[i64; 2]>(), window in any::<u32>()) {
        let query = Query { segment: 1, offset };
        let exact = prefix as u128 + lead as u128 + offset as u128;
        prop_assert_eq!(mask::position(prefix, lead, query, true) as u128, exact.min(usize::MAX as u128));
        let near = i128::from(keys[0]) - i128::from(keys[1]) < i128::from(window);
        prop_assert_eq!(mask::in_window(keys[0], keys[1], Some(window)), near);
    }
}
