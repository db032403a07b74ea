use std::convert::Infallible;

use proptest::prelude::*;
use tpu_rpa::batch::{Planner, Tiling};
use tpu_rpa::prefix_cache::PrefixCache;
use tpu_rpa::score::{ForwardPass, Limits, Pass, ScoreError, Scorer};

use crate::{MOST, edge, tells};

struct Idle(Limits);

impl ForwardPass for Idle {
    type Error = Infallible;

    fn limits(&self) -> Limits {
        self.0
    }

    fn run(&mut self, pass: &Pass) -> Result<Vec<f32>, Infallible> {
        Ok(vec![-1.0; pass.rows().len() * pass.labels().len()])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn prefix_caches(pages in edge(), page_size in edge()) {
        let slots = pages as u128 * page_size as u128;
        match PrefixCache::new(pages, page_size) {
            Ok(cache) => {
                prop_assert!(slots <= MOST && page_size > 0);
                prop_assert_eq!(cache.stats().free_pages, pages);
            }
            Err(error) => {
                prop_assert!(slots > MOST || page_size == 0);
                tells(&error, &[pages, page_size]);
            }
        }
    }

    #[test]
    fn limits(sizes in prop::array::uniform7(edge())) {
        let [vocabulary, context, pass_tokens, max_request_tokens, max_items, max_labels, pool_pages] = sizes;
        let limits = Limits {
            sliding_window: None,
            vocabulary,
            context,
            pass_tokens,
            max_request_tokens,
            max_items,
            max_labels,
            page_size: 16,
            pool_pages,
            tiling: Tiling::portable(64, 64, 32, 16).unwrap(),
        };
        let counts = [vocabulary, context, max_request_tokens, max_items, max_labels];
        let fits = pass_tokens >= context.min(64)
            && pass_tokens <= Planner::MAX_TOKENS
            && pass_tokens as u128 + context as u128 <= MOST
            && pool_pages as u128 * 16 <= MOST;
        match Scorer::new(Idle(limits)) {
            Ok(_) => prop_assert!(fits && !counts.contains(&0)),
            Err(error) => {
                prop_assert!(!fits || counts.contains(&0), "{}", error);
                prop_assert!(matches!(error, ScoreError::Limit { .. } | ScoreError::Batch(_)), "{}", error);
                prop_assert!(!error.is_invalid_request());
                tells(&error, &sizes);
            }
        }
    }
}
