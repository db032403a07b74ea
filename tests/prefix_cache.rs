//! The prefix cache against a plain model: a list of committed sequences, and who holds which page.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use tpu_rpa::prefix_cache::{Hold, PrefixCache};

const PAGE: usize = 4;

/// What the pages hold: every position's tokens up to and including it, as a device would have computed them.
#[derive(Default)]
struct Device {
    slots: BTreeMap<(i32, usize), Vec<i32>>,
}

impl Device {
    fn write(&mut self, hold: &Hold, tokens: &[i32]) {
        for at in hold.found()..tokens.len() {
            self.slots.insert((hold.pages()[at / PAGE], at % PAGE), tokens[..=at].to_vec());
        }
    }

    fn check(&self, hold: &Hold, tokens: &[i32], until: usize) {
        for at in 0..until {
            let slot = (hold.pages()[at / PAGE], at % PAGE);
            assert_eq!(self.slots.get(&slot).map(Vec::as_slice), Some(&tokens[..=at]), "position {at}");
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Acquire { tokens: Vec<i32>, reuse: bool },
    Commit(usize),
    Release(usize),
    Clear,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    // Few different tokens: sequences begin alike.
    let tokens = prop::collection::vec(prop_oneof![9 => Just(0), 1 => 1..3i32], 0..20);
    let op = prop_oneof![
        20 => (tokens, any::<bool>()).prop_map(|(tokens, reuse)| Op::Acquire { tokens, reuse }),
        10 => (0..8usize).prop_map(Op::Commit),
        20 => (0..8usize).prop_map(Op::Release),
        1 => Just(Op::Clear),
    ];
    prop::collection::vec(op, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A page that is found holds what it is found for; no page that is held is handed out; none is lost.
    #[test]
    fn pages_hold_what_they_are_found_for(ops in ops(), pages in 1..24usize) {
        let mut cache = PrefixCache::new(pages, PAGE);
        let mut device = Device::default();
        let mut holds: Vec<(Hold, Vec<i32>, bool)> = Vec::new();
        for op in ops {
            match op {
                Op::Acquire { tokens, reuse } => {
                    let found = cache.find(&tokens);
                    prop_assert!(found == tokens.len() || found.is_multiple_of(PAGE));
                    let reuse = if reuse { found } else { 0 };
                    let held: HashSet<i32> = holds.iter().flat_map(|(hold, ..)| hold.pages().to_vec()).collect();
                    let Some(hold) = cache.acquire(&tokens, reuse) else {
                        let needed = tokens.len().div_ceil(PAGE);
                        // A sequence that was committed second also keeps the pages of the first.
                        let second: usize = holds.iter().filter(|h| h.2).map(|h| h.0.pages().len()).sum();
                        prop_assert!(held.len() + second + needed > pages, "refused with room");
                        continue;
                    };
                    prop_assert_eq!(hold.found(), reuse);
                    prop_assert_eq!(hold.pages().len(), tokens.len().div_ceil(PAGE));
                    let fresh = &hold.pages()[reuse.div_ceil(PAGE)..];
                    prop_assert!(fresh.iter().all(|page| !held.contains(page)), "a held page handed out");
                    device.check(&hold, &tokens, reuse);
                    device.write(&hold, &tokens);
                    holds.push((hold, tokens, false));
                }
                Op::Commit(at) if at < holds.len() => {
                    let (hold, tokens, committed) = &mut holds[at];
                    if !*committed {
                        cache.commit(hold, tokens);
                        *committed = true;
                        prop_assert_eq!(cache.find(tokens), tokens.len());
                    }
                }
                Op::Release(at) if at < holds.len() => cache.release(holds.remove(at).0),
                Op::Clear => {
                    cache.clear();
                    // Holds of before are void.
                    for (hold, ..) in holds.drain(..) {
                        cache.release(hold);
                    }
                    prop_assert_eq!(cache.stats().free_pages, pages);
                }
                _ => {}
            }
            for (hold, tokens, _) in &holds {
                device.check(hold, tokens, tokens.len());
            }
        }
        for (hold, ..) in holds {
            cache.release(hold);
        }
        let stats = cache.stats();
        prop_assert_eq!(stats.free_pages + stats.indexed_pages, pages);
        // Nothing is held, so the whole pool can be had.
        let all = vec![9; pages * PAGE];
        prop_assert!(cache.acquire(&all, 0).is_some());
    }
}

#[test]
fn the_least_recently_used_leaf_goes_first() {
    let mut cache = PrefixCache::new(4, PAGE);
    let keep = |cache: &mut PrefixCache, tokens: &[i32]| {
        let reuse = cache.find(tokens);
        let mut hold = cache.acquire(tokens, reuse).expect("there are pages");
        cache.commit(&mut hold, tokens);
        cache.release(hold);
    };
    let (a, b) = ([1; 8], [2; 8]);
    keep(&mut cache, &a);
    keep(&mut cache, &b);
    keep(&mut cache, &a);
    keep(&mut cache, &[3; 2]);
    assert_eq!(
        (cache.find(&a), cache.find(&b), cache.find(&[3; 2])),
        (8, 4, 2),
        "the end of the older one went"
    );
    assert_eq!(cache.stats().evictions, 1);
    // A part of a page is found where the page begins with it.
    assert_eq!((cache.find(&a[..6]), cache.find(&[1, 1, 1, 1, 1, 2])), (6, 4));
}
