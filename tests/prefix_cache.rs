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
        let mut cache = PrefixCache::new(pages, PAGE).unwrap();
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
                        hold.commit();
                        *committed = true;
                        prop_assert_eq!(cache.find(tokens), tokens.len());
                    }
                }
                Op::Release(at) if at < holds.len() => drop(holds.remove(at)),
                Op::Clear => {
                    cache.clear();
                    // Holds of before are void.
                    holds.clear();
                    prop_assert_eq!(cache.stats().free_pages, pages);
                }
                _ => {}
            }
            for (hold, tokens, _) in &holds {
                device.check(hold, tokens, tokens.len());
            }
        }
        drop(holds);
        let stats = cache.stats();
        prop_assert_eq!(stats.free_pages + stats.indexed_pages, pages);
        // Nothing is held, so the whole pool can be had.
        let all = vec![9; pages * PAGE];
        prop_assert!(cache.acquire(&all, 0).is_some());
    }
}

#[test]
fn the_least_recently_used_leaf_goes_first() {
    let mut cache = PrefixCache::new(4, PAGE).unwrap();
    let keep = |cache: &mut PrefixCache, tokens: &[i32]| {
        let reuse = cache.find(tokens);
        let mut hold = cache.acquire(tokens, reuse).expect("there are pages");
        hold.commit();
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

/// A hold gives its pages back when it is dropped, to the cache that it is of, once, whatever happened before.
#[test]
fn holds_are_of_one_cache_and_end_when_dropped() {
    fn moves_to_threads<T: Send>(value: T) -> T {
        value
    }
    let mut caches = [PrefixCache::new(4, PAGE).unwrap(), PrefixCache::new(2, PAGE).unwrap()];
    let [large, small] = &mut caches;
    let free = |cache: &PrefixCache| (cache.stats().free_pages, cache.stats().indexed_pages);
    let hold = moves_to_threads(large.acquire(&[1; 16], 0).unwrap());
    let mut other = small.acquire(&[1; 8], 0).unwrap();
    assert_eq!((free(large), free(small)), ((0, 0), (0, 0)));
    assert!(large.acquire(&[2], 0).is_none());
    std::thread::spawn(move || drop(hold)).join().unwrap();
    assert_eq!((free(large), free(small)), ((4, 0), (0, 0)));
    other.commit();
    assert_eq!((large.find(&[1; 8]), small.find(&[1; 8])), (0, 8));

    // Another of the same tokens keeps pages that nobody finds; committed twice, they are not lost.
    let mut twins = [0; 2].map(|_| large.acquire(&[3; 8], 0).unwrap());
    twins.iter_mut().for_each(Hold::commit);
    twins.iter_mut().for_each(Hold::commit);
    assert_eq!(free(large), (0, 2));
    drop(twins);
    assert_eq!(free(large), (2, 2));
    assert!(large.acquire(&[4; 16], 0).is_some_and(|hold| hold.pages().len() == 4));

    // One of before a failure, and one that outlives its cache.
    let mut old = large.acquire(&[5; 8], 0).unwrap();
    large.clear();
    old.commit();
    drop(old);
    assert_eq!((free(large), large.find(&[5; 8])), ((4, 0), 0));
    let mut last = large.acquire(&[6; 4], 0).unwrap();
    drop(caches);
    last.commit();
    drop((last, other));
}
