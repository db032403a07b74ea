//! Hostile numbers at every door of `spec` and `batch`: each gives its documented error, never a panic, and
//! leaves the planner as good as new.

use tpu_rpa::batch::{BatchError, Group, KvSlots, Planner, Tiling};
use tpu_rpa::spec::{AttentionSpec, DType, KvWriteSpec, LabelLogprobsSpec, LabelSet, PageRule, SpecError};

const PAGE_SIZE: usize = 16;
const POOL_PAGES: usize = 8;
const MAX_TOKENS: usize = 1000;

fn planner() -> Planner {
    let tiling = Tiling::portable(64, 64, 32, PAGE_SIZE).unwrap();
    Planner::new(PAGE_SIZE, POOL_PAGES, tiling).unwrap().with_max_tokens(MAX_TOKENS)
}

fn group(prefix_len: i32, pages: &'static [i32], cu_seg_lens: &'static [i32]) -> Group<'static> {
    Group { prefix_len, pages, cu_seg_lens, lead: false }
}

/// A valid group of ten tokens.
const TEN: Group<'static> = Group { prefix_len: 20, pages: &[3, 5], cu_seg_lens: &[0, 4, 10], lead: true };

#[test]
fn every_hostile_batch_gives_its_error_and_harms_nothing() {
    use BatchError::*;
    let too_many = |found| TooManyTokens { found, max_tokens: MAX_TOKENS };
    let too_few =
        |prefix_len, needed, given| TooFewPages { group: 0, prefix_len, page_size: PAGE_SIZE, needed, given };
    let out_of_range = |at, page| PageOutOfRange { group: 0, at, page, pool_pages: POOL_PAGES };
    let start = |group, found, expected| GroupStart { group, found, expected };
    let cases: Vec<(&str, usize, Vec<Group<'_>>, BatchError)> = vec![
        ("no groups", 10, vec![], NoGroups),
        ("no tokens", 0, vec![TEN], NoTokens),
        ("one token above the limit", MAX_TOKENS + 1, vec![TEN], too_many(MAX_TOKENS + 1)),
        ("endless tokens", usize::MAX, vec![TEN], too_many(usize::MAX)),
        ("negative prefix", 10, vec![group(-1, &[0], &[0, 10])], NegativePrefix { group: 0, prefix_len: -1 }),
        (
            "most negative prefix",
            10,
            vec![group(i32::MIN, &[0], &[0, 10])],
            NegativePrefix { group: 0, prefix_len: i32::MIN },
        ),
        ("prefix without pages", 10, vec![group(1, &[], &[0, 10])], too_few(1, 1, 0)),
        ("prefix one token beyond its page", 10, vec![group(17, &[1], &[0, 10])], too_few(17, 2, 1)),
        ("longest prefix", 10, vec![group(i32::MAX, &[1], &[0, 10])], too_few(i32::MAX as usize, 1 << 27, 1)),
        ("negative page", 10, vec![group(16, &[-1], &[0, 10])], out_of_range(0, -1)),
        ("most negative page", 10, vec![group(20, &[1, i32::MIN], &[0, 10])], out_of_range(1, i32::MIN)),
        ("first page behind the pool", 10, vec![group(16, &[8], &[0, 10])], out_of_range(0, 8)),
        ("greatest page", 10, vec![group(33, &[1, 2, i32::MAX], &[0, 10])], out_of_range(2, i32::MAX)),
        (
            "page named twice",
            10,
            vec![group(48, &[4, 2, 4], &[0, 10])],
            RepeatedPage { group: 0, at: 2, page: 4 },
        ),
        ("no offsets", 10, vec![group(0, &[], &[])], NoSegments { group: 0, offsets: 0 }),
        ("one offset", 10, vec![group(0, &[], &[0])], NoSegments { group: 0, offsets: 1 }),
        ("late start", 10, vec![group(0, &[], &[1, 10])], start(0, 1, 0)),
        ("negative start", 10, vec![group(0, &[], &[-1, 10])], start(0, -1, 0)),
        ("most negative start", 10, vec![group(0, &[], &[i32::MIN, 10])], start(0, i32::MIN, 0)),
        ("greatest start", 10, vec![group(0, &[], &[i32::MAX, i32::MAX])], start(0, i32::MAX, 0)),
        ("gap between groups", 20, vec![TEN, group(0, &[], &[11, 20])], start(1, 11, 10)),
        ("groups that overlap", 20, vec![TEN, group(0, &[], &[9, 20])], start(1, 9, 10)),
        ("groups in the wrong order", 20, vec![group(0, &[], &[10, 20]), TEN], start(0, 10, 0)),
        (
            "decreasing offsets",
            10,
            vec![group(0, &[], &[0, 6, 5, 10])],
            DecreasingOffsets { group: 0, at: 2, before: 6, found: 5 },
        ),
        (
            "negative offset",
            10,
            vec![group(0, &[], &[0, -1, 10])],
            DecreasingOffsets { group: 0, at: 1, before: 0, found: -1 },
        ),
        (
            "offsets that fall as far as they can",
            10,
            vec![group(0, &[], &[0, i32::MAX, i32::MIN])],
            DecreasingOffsets { group: 0, at: 2, before: i32::MAX, found: i32::MIN },
        ),
        (
            "end behind the batch",
            10,
            vec![group(0, &[], &[0, 11])],
            OffsetBeyondTotal { group: 0, found: 11, total_tokens: 10 },
        ),
        (
            "greatest end",
            10,
            vec![group(0, &[], &[0, 5, i32::MAX])],
            OffsetBeyondTotal { group: 0, found: i32::MAX as usize, total_tokens: 10 },
        ),
        (
            "second group behind the batch",
            15,
            vec![TEN, group(0, &[], &[10, 16])],
            OffsetBeyondTotal { group: 1, found: 16, total_tokens: 15 },
        ),
        ("total above the groups'", 11, vec![TEN], TotalMismatch { found: 10, total_tokens: 11 }),
        (
            "only empty groups",
            10,
            vec![group(0, &[], &[0, 0]), group(0, &[], &[0, 0])],
            TotalMismatch { found: 0, total_tokens: 10 },
        ),
        (
            "bad second group",
            20,
            vec![TEN, group(-5, &[], &[10, 20])],
            NegativePrefix { group: 1, prefix_len: -5 },
        ),
    ];
    let expected = planner().plan(10, &[TEN]).unwrap();
    let mut planner = planner();
    for (name, total_tokens, groups, error) in cases {
        assert_eq!(planner.plan(total_tokens, &groups), Err(error), "{name}");
        assert_eq!(planner.plan(10, &[TEN]).as_ref(), Ok(&expected), "the batch after: {name}");
    }
}

#[test]
fn an_empty_pool_serves_batches_without_prefix() {
    let tiling = Tiling::portable(64, 64, 32, PAGE_SIZE).unwrap();
    let mut planner = Planner::new(PAGE_SIZE, 0, tiling).unwrap();
    let refused = planner.plan(10, &[group(1, &[0], &[0, 10])]);
    assert_eq!(refused, Err(BatchError::PageOutOfRange { group: 0, at: 0, page: 0, pool_pages: 0 }));
    assert!(planner.plan(10, &[group(0, &[0], &[0, 10])]).is_ok());
}

#[test]
fn positions_end_at_the_greatest_i32() {
    let (page_size, pool_pages) = (1024, i32::MAX as usize / 1024);
    let tiling = Tiling::portable(256, 1 << 16, 128, page_size).unwrap();
    let mut planner = Planner::new(page_size, pool_pages, tiling).unwrap();
    let pages: Vec<i32> = (0..pool_pages as i32).collect();
    let prefix_len = (pool_pages * page_size) as i32;
    let long = |cu_seg_lens| Group { prefix_len, pages: &pages, cu_seg_lens, lead: false };

    let refused = planner.plan(1024, &[long(&[0, 1024])]);
    assert_eq!(refused, Err(BatchError::PositionOverflow { group: 0, length: 1 << 31 }));
    let plan = planner.plan(1023, &[long(&[0, 1023])]).unwrap();
    assert_eq!(plan.positions()[1022], i32::MAX - 1);
}

#[test]
fn metadata_has_a_limit() {
    let groups = [TEN];
    let whole = planner().plan(10, &groups).unwrap();
    let words = whole.meta().len();
    assert_eq!(planner().with_max_meta_words(words).plan(10, &groups).as_ref(), Ok(&whole));
    for max_words in [words - 1, 0] {
        let refused = planner().with_max_meta_words(max_words).plan(10, &groups);
        assert_eq!(refused, Err(BatchError::TooMuchMetadata { words, max_words }));
    }
}

#[test]
fn every_hostile_limit_gives_its_error() {
    let field = |result: Result<(), BatchError>| match result {
        Err(BatchError::Limit { field, value, .. }) => (field, value),
        other => panic!("{other:?}"),
    };
    let tiling = |q, kv, own, page| {
        let portable = field(Tiling::portable(q, kv, own, page).map(drop));
        assert_eq!(field(Tiling::tpu(q, kv, own, page).map(drop)), portable);
        portable
    };
    assert_eq!(tiling(0, 64, 32, 16), ("q_tile", 0));
    assert_eq!(tiling(48, 64, 32, 16), ("q_tile", 48));
    assert_eq!(tiling(usize::MAX, 64, 32, 16), ("q_tile", usize::MAX));
    assert_eq!(tiling(64, 64, 0, 16), ("own_tile", 0));
    assert_eq!(tiling(64, 1024, 512, 16), ("own_tile", 512));
    assert_eq!(tiling(64, 0, 32, 16), ("kv_tile", 0));
    assert_eq!(tiling(64, 72, 32, 16), ("kv_tile", 72));
    assert_eq!(tiling(64, 64, 32, 0), ("kv_tile", 64));
    assert_eq!(tiling(64, 16, 32, 16), ("kv_tile", 16));
    assert_eq!(tiling(64, 1 << 17, 32, 16), ("kv_tile", 1 << 17));
    assert_eq!(tiling(64, usize::MAX - 15, 32, 16), ("kv_tile", usize::MAX - 15));

    let good = Tiling::portable(64, 64, 32, 16).unwrap();
    let blocks = |q, tokens| field(Tiling::tpu(q, 64, 32, 16).unwrap().with_row_block(tokens).map(drop));
    for (q, tokens) in [(64, 0), (64, 4), (64, 24), (64, 128), (256, 8), (64, usize::MAX)] {
        assert_eq!(blocks(q, tokens), ("row_block", tokens));
    }
    let planner = |page_size, pool| field(Planner::new(page_size, pool, good).map(drop));
    assert_eq!(planner(0, 8), ("page_size", 0));
    assert_eq!(planner(128, 8), ("page_size", 128));
    assert_eq!(planner(16, 1 << 27), ("pool_pages", 1 << 27));
    assert_eq!(planner(16, usize::MAX), ("pool_pages", usize::MAX));
}

#[test]
fn every_hostile_slot_list_gives_its_error() {
    use BatchError::*;
    let mut planner = planner();
    // Slots 48..64 of page 3 and 80..84 of page 5 hold the prefix.
    let plan = planner.plan(10, &[TEN]).unwrap();
    let capacity = PAGE_SIZE * POOL_PAGES;
    let slots_but = |at: usize, slot| {
        let mut slots: Vec<i32> = (0..10).collect();
        slots[at] = slot;
        slots
    };
    let cases = [
        (vec![], SlotCount { found: 0, tokens: 10 }),
        (vec![-1; 16], SlotCount { found: 16, tokens: 10 }),
        (slots_but(3, -2), SlotOutOfRange { at: 3, slot: -2, capacity }),
        (slots_but(0, i32::MIN), SlotOutOfRange { at: 0, slot: i32::MIN, capacity }),
        (slots_but(9, 128), SlotOutOfRange { at: 9, slot: 128, capacity }),
        (slots_but(9, i32::MAX), SlotOutOfRange { at: 9, slot: i32::MAX, capacity }),
        (slots_but(7, 2), RepeatedSlot { at: 7, group: 0, first: 2, first_group: 0, slot: 2, page: 0 }),
        (slots_but(4, 63), WriteToPrefix { at: 4, slot: 63, page: 3 }),
        (slots_but(4, 83), WriteToPrefix { at: 4, slot: 83, page: 5 }),
    ];
    for (slots, error) in cases {
        assert_eq!(KvSlots::new(&planner, &plan, &slots), Err(error), "{slots:?}");
    }
    // The rest of a prefix's last page is free, and -1 may repeat.
    let good = [84, 85, 86, -1, -1, 0, 127, 1, 2, 3];
    let slots = KvSlots::new(&planner, &plan, &good).unwrap();
    assert_eq!(slots.slots()[..10], good);
    assert!(slots.slots()[10..].iter().all(|&slot| slot == -1));
    assert_eq!(slots.slots().len(), plan.bucket().tokens);
    let words = slots.words(&plan).unwrap();
    assert_eq!(words[1..], *slots.slots());
}

/// What two sequences write to one page, one of them could not read again: pages count from a sequence's positions.
#[test]
fn a_page_is_written_by_one_sequence() {
    let mut planner = planner();
    // Both read four tokens of page 5 behind page 3; in the second group segments share a lead.
    let two = [group(20, &[3, 5], &[0, 2]), Group { lead: true, ..group(20, &[3, 5], &[2, 4, 6, 6, 8]) }];
    let plan = planner.plan(8, &two).unwrap();
    let check = |slots: [i32; 8]| KvSlots::new(&planner, &plan, &slots).map(drop);
    let shared = |at, group, first, first_group, slot, page| {
        Err(BatchError::SharedPage { at, group, first, first_group, slot, page })
    };
    // One of them appends to the shared page, and the lead to another, with one segment behind it.
    assert_eq!(check([84, 85, 0, 1, 2, 3, -1, -1]), Ok(()));
    assert_eq!(check([-1, -1, 84, 85, -1, -1, 86, 87]), Ok(()));
    // Both append to it, at slots of their own and at the same one.
    assert_eq!(check([84, -1, 85, -1, -1, -1, -1, -1]), shared(2, 1, 0, 0, 85, 5));
    let same = BatchError::RepeatedSlot { at: 2, group: 1, first: 1, first_group: 0, slot: 84, page: 5 };
    assert_eq!(check([-1, 84, 84, -1, -1, -1, -1, -1]), Err(same.clone()));
    // A free page for both, and for two segments of a group, whether behind their lead or not.
    assert_eq!(check([0, 1, -1, -1, 2, 3, -1, -1]), shared(4, 1, 1, 0, 2, 0));
    assert_eq!(check([-1, -1, -1, -1, 0, 1, 2, -1]), shared(6, 1, 5, 1, 2, 0));
    assert_eq!(check([-1, -1, 0, 1, 2, 3, 4, -1]), shared(6, 1, 5, 1, 4, 0));
    assert_eq!(
        shared(6, 1, 5, 1, 4, 0).unwrap_err().to_string(),
        "slots[6] of groups[1] is 4, in page 0, where slots[5] of groups[1] writes for another sequence; a page holds \
         one sequence"
    );
    assert_eq!(
        same.to_string(),
        "slots[2] of groups[1] is 84, in page 5: slots[1] of groups[0] writes it too"
    );
}

#[test]
fn slots_are_taken_with_their_own_plan_alone() {
    let mut planner = planner();
    let [plan, equal] = [0; 2].map(|_| planner.plan(10, &[TEN]).unwrap());
    assert_eq!(plan, equal, "whichever slots are theirs");
    for slots in
        [KvSlots::new(&planner, &plan, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap(), KvSlots::none(&plan)]
    {
        let copy = plan.clone();
        assert_eq!(slots.words(&plan), slots.words(&copy));
        let table = slots.chunk_table(&copy).unwrap();
        assert_eq!(table[1], if slots.is_empty() { 0 } else { 2 });
        assert_eq!(table.len(), slots.chunk_entries() + slots.slots().len());
        let error = slots.words(&equal).unwrap_err();
        assert!(matches!(error, BatchError::OtherPlan { .. }), "{error}");
        assert_eq!(slots.chunk_table(&equal), Err(error.clone()));
        assert_eq!(slots.clone().words(&equal), Err(error));
    }
}

/// Only a planner with gaps takes them, and it takes nothing else that is wrong.
#[test]
fn gaps_are_padding() {
    use BatchError::*;
    let one = |at: &'static [i32]| Group { cu_seg_lens: at, ..Group::default() };
    let gapped = [one(&[2, 5]), one(&[5, 5]), one(&[9, 10])];
    assert_eq!(planner().plan(12, &gapped), Err(GroupStart { group: 0, found: 2, expected: 0 }));
    let mut planner = planner().with_gaps();
    for (at, error) in [
        (&[4, 6], GroupOverlap { group: 1, found: 4, least: 5 }),
        (&[-1, 6], GroupOverlap { group: 1, found: -1, least: 5 }),
        (&[i32::MIN, 6], GroupOverlap { group: 1, found: i32::MIN, least: 5 }),
        (&[8, 7], DecreasingOffsets { group: 1, at: 1, before: 8, found: 7 }),
        (&[8, 13], OffsetBeyondTotal { group: 1, found: 13, total_tokens: 12 }),
    ] {
        assert_eq!(planner.plan(12, &[gapped[0], one(at)]), Err(error));
    }
    let plan = planner.plan(12, &gapped).unwrap();
    assert_eq!(plan.positions()[..12], [0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0]);
    let mut slots = [-1; 12];
    slots[3] = 7;
    assert!(KvSlots::new(&planner, &plan, &slots).is_ok());
    for at in [0, 1, 5, 8, 10, 11] {
        slots[at] = 8;
        assert_eq!(KvSlots::new(&planner, &plan, &slots), Err(WriteOfPadding { at, slot: 8 }));
        slots[at] = -1;
    }
}

/// Padding goes where it saves visits to long prefixes, and never beyond the bucket.
#[test]
fn starts_keep_groups_with_long_prefixes_in_one_row_block() {
    let tiling = Tiling::tpu(64, 64, 32, PAGE_SIZE).unwrap().with_row_block(16).unwrap().into();
    let planner = |tiling: Tiling| Planner::new(PAGE_SIZE, 64, tiling).unwrap().with_gaps();
    let stats = |groups: &[(usize, usize)]| {
        let mut planner = planner(tiling);
        let (starts, tokens) = planner.starts(groups);
        let offsets: Vec<_> =
            groups.iter().zip(&starts).map(|(&(new, _), &at)| [at as i32, (at + new) as i32]).collect();
        let pages: Vec<i32> = (0..64).collect();
        let groups: Vec<_> = groups
            .iter()
            .zip(&offsets)
            .map(|(&(_, prefix), at)| Group {
                prefix_len: prefix as i32,
                pages: &pages,
                cu_seg_lens: at,
                lead: false,
            })
            .collect();
        let plan = planner.plan(tokens, &groups).unwrap();
        (starts, plan.bucket().tokens, plan.stats().full_tiles + plan.stats().edge_tiles)
    };
    // 16 visits of the prefix instead of 32, and a slot tile each.
    assert_eq!(stats(&[(10, 0), (10, 1024)]), (vec![0, 16], 64, 18));
    // Nothing to save, nowhere to go, or too long for a block.
    assert_eq!(stats(&[(10, 0), (10, 0)]).0, [0, 10]);
    assert_eq!(stats(&[(60, 0), (8, 1024), (56, 0), (4, 512)]).0, [0, 60, 68, 124]);
    assert_eq!(stats(&[(61, 0), (3, 1024)]).0, [0, 61]);
    assert_eq!(stats(&[(10, 0), (20, 1024)]).0, [0, 10]);
    assert_eq!(stats(&[(10, 0), (10, 1024), (42, 0)]), (vec![0, 10, 20], 64, 37));
    // Neither where gaps are not taken, nor beyond the tokens of a batch.
    let (none, few) = (Planner::new(PAGE_SIZE, 64, tiling).unwrap(), planner(tiling).with_max_tokens(24));
    let (portable, two) = (Tiling::portable(16, 64, 32, PAGE_SIZE).unwrap(), [(10, 0), (10, 1024)]);
    for planner in [none, few, planner(portable)] {
        assert_eq!(planner.starts(&two), (vec![0, 10], 20));
    }
    // Whatever a planner will say to them.
    let planner = planner(tiling);
    let (most, limit) = (usize::MAX, Planner::MAX_TOKENS);
    assert_eq!(planner.starts(&[]), (vec![], 0));
    assert_eq!(planner.starts(&[(10, most), (most, most), (1, 0)]), (vec![0, 10, most], most));
    assert_eq!(planner.starts(&[(limit, 0), (10, 1024)]).1, limit + 10);
}

#[test]
fn a_plan_of_another_pool_takes_no_slots() {
    let tiling = Tiling::portable(64, 64, 32, PAGE_SIZE).unwrap();
    let plan = planner().plan(10, &[TEN]).unwrap();
    let smaller = Planner::new(PAGE_SIZE, 2, tiling).unwrap();
    let error = BatchError::OtherPool {
        page_size: PAGE_SIZE,
        pool_pages: 2,
        plan_page_size: PAGE_SIZE,
        plan_pool_pages: POOL_PAGES,
    };
    assert_eq!(KvSlots::new(&smaller, &plan, &[-1; 10]), Err(error));
}

#[test]
fn every_hostile_spec_gives_its_error() {
    use SpecError::*;
    let base = || AttentionSpec::builder(8, 2, 64);
    let max = i32::MAX as usize;
    let zero = |field| Zero { field };
    assert_eq!(AttentionSpec::builder(0, 2, 64).build(), Err(zero("q_heads")));
    assert_eq!(AttentionSpec::builder(8, 0, 64).build(), Err(zero("kv_heads")));
    assert_eq!(AttentionSpec::builder(8, 3, 64).build(), Err(HeadRatio { q_heads: 8, kv_heads: 3 }));
    assert_eq!(AttentionSpec::builder(2, 8, 64).build(), Err(HeadRatio { q_heads: 2, kv_heads: 8 }));
    assert_eq!(base().sliding_window(0).build(), Err(zero("sliding_window")));

    let out_of_range = |result: Result<AttentionSpec, SpecError>| match result {
        Err(OutOfRange { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(out_of_range(AttentionSpec::builder(max + 1, 1, 64).build()), "q_heads");
    assert_eq!(out_of_range(AttentionSpec::builder(8, usize::MAX, 64).build()), "kv_heads");
    assert_eq!(out_of_range(base().sliding_window(u32::MAX).build()), "sliding_window");
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(out_of_range(base().scale(bad).build()), "scale");
        assert_eq!(out_of_range(base().soft_cap(bad).build()), "soft_cap");
    }

    let unsupported = |result: Result<AttentionSpec, SpecError>| match result {
        Err(Unsupported { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    for head_dim in [0, 1, 96, 512, usize::MAX] {
        assert_eq!(unsupported(AttentionSpec::builder(8, 2, head_dim).build()), "head_dim");
    }
    for (page_size, rule) in [
        (0, PageRule::WholeTiles),
        (4, PageRule::WholeTiles),
        (20, PageRule::WholeTiles),
        (usize::MAX, PageRule::WholeTiles),
        (24, PageRule::PowerOfTwo),
        (2048, PageRule::KeyTile),
    ] {
        let refused = Err(SpecError::PageSize { page_size, rule });
        assert_eq!(base().page_size(page_size).build(), refused);
        assert_eq!(KvWriteSpec::new(2, 64, page_size, DType::F32).map(|_| ()), refused.map(|_| ()));
    }
    assert_eq!(unsupported(base().dtype(DType::I32).build()), "dtype");

    // The elements of a token count as an index does.
    assert_eq!(out_of_range(AttentionSpec::builder(1 << 25, 1, 64).build()), "q_heads");
    assert!(AttentionSpec::builder((1 << 25) - 1, 1, 64).build().is_ok());
    let wide = KvWriteSpec::new(1 << 16, 1 << 15, 16, DType::F32);
    assert!(matches!(wide, Err(OutOfRange { field: "kv_heads", .. })), "{wide:?}");

    assert_eq!(KvWriteSpec::new(0, 64, 16, DType::F32), Err(zero("kv_heads")));
    assert_eq!(KvWriteSpec::new(2, 0, 16, DType::F32), Err(zero("head_dim")));
    assert!(matches!(KvWriteSpec::new(2, 64, 16, DType::I32), Err(Unsupported { field: "dtype", .. })));

    let labels = |hidden, vocab, labels| LabelLogprobsSpec::new(hidden, vocab, labels, DType::F32);
    assert_eq!(labels(0, 10, LabelSet::Shared(2)), Err(zero("hidden")));
    assert_eq!(labels(8, 0, LabelSet::Shared(2)), Err(zero("vocab")));
    assert_eq!(labels(8, 10, LabelSet::PerRow(0)), Err(zero("labels")));
    assert!(matches!(labels(8, max + 1, LabelSet::Shared(2)), Err(OutOfRange { field: "vocab", .. })));
    let of_i32 = LabelLogprobsSpec::new(8, 10, LabelSet::Shared(2), DType::I32);
    assert!(matches!(of_i32, Err(Unsupported { field: "dtype", .. })));
}
