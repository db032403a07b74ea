//! The planner against the definition of visibility: every plan, decoded from its words alone, must make each
//! row see exactly the keys that `mask` lets it see, once and in order.

use std::collections::HashSet;

use common::{Batch, GroupShape, Random, batches_with_gaps, page_sizes, tilings_of_all_kinds, windows};
use proptest::prelude::*;
use tpu_rpa::batch::{Group, Plan, Planner, TileSource, Tiling, TpuTiling, layout};
use tpu_rpa::mask::{self, Key, Query};

/// A key by where it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Page { page: i32, slot: usize },
    Token(i32),
}

fn is_tpu(tiling: Tiling) -> bool {
    matches!(tiling, Tiling::Tpu(_))
}

/// What every row of the bucket sees, in the canonical order: prefix, lead, own segment, each ascending. In TPU plans
/// an own segment that lies in slots comes first.
fn expected(batch: &Batch, rows: usize, tiling: Tiling, window: Option<u32>) -> Vec<Vec<At>> {
    let mut seen = vec![Vec::new(); rows];
    for group in batch.groups() {
        let in_slots = |segment: usize| {
            let len = group.cu_seg_lens[segment + 1] - group.cu_seg_lens[segment];
            len as usize <= tiling.short_segment() && !(group.lead && segment == 0)
        };
        for (row, query, position) in new_tokens(&group) {
            for i in 0..group.prefix_len as usize {
                if mask::visible(query, Key::Prefix, group.lead)
                    && mask::in_window(position, i as i64, window)
                {
                    let page = group.pages[i / batch.page_size];
                    seen[row].push(At::Page { page, slot: i % batch.page_size });
                }
            }
            let mut shared = seen[row].len();
            for (token, Query { segment, offset }, key_position) in new_tokens(&group) {
                if mask::visible(query, Key::New { segment, offset }, group.lead)
                    && mask::in_window(position, key_position, window)
                {
                    seen[row].push(At::Token(token as i32));
                    shared += usize::from(segment != query.segment);
                }
            }
            if is_tpu(tiling) && in_slots(query.segment) {
                seen[row].rotate_left(shared);
            }
        }
    }
    seen
}

/// Row, place and position of every new token of a group.
fn new_tokens(group: &Group<'_>) -> Vec<(usize, Query, i64)> {
    let lead_len = (group.cu_seg_lens[1] - group.cu_seg_lens[0]) as usize;
    let mut tokens = Vec::new();
    for (segment, ends) in group.cu_seg_lens.windows(2).enumerate() {
        for (offset, row) in (ends[0]..ends[1]).enumerate() {
            let query = Query { segment, offset };
            let position = mask::position(group.prefix_len as usize, lead_len, query, group.lead);
            tokens.push((row as usize, query, position as i64));
        }
    }
    tokens
}

/// A plan as a kernel reads it: words and the documented layout, nothing else.
struct Decoded<'a> {
    meta: &'a [i32],
    rows: usize,
    tiling: Tiling,
    page_size: usize,
    window: Option<u32>,
}

struct DecodedTile {
    kind: i32,
    start: usize,
    keys: usize,
    whole: std::ops::Range<usize>,
    position: i64,
    first_row: usize,
    row_block: usize,
    full: bool,
    key_base: i64,
}

impl Decoded<'_> {
    fn header(&self, word: usize) -> usize {
        self.meta[word] as usize
    }

    fn row(&self, section: usize, row: usize) -> i64 {
        i64::from(self.meta[layout::HEADER + section * self.rows + row])
    }

    fn tiles(&self, q_tile: usize) -> Vec<DecodedTile> {
        let csr = &self.meta[self.header(layout::TILE_OFFSETS) + q_tile..];
        (csr[0]..csr[1])
            .map(|i| {
                let at = self.header(layout::TILES) + i as usize * layout::TILE_WORDS;
                let w = &self.meta[at..at + layout::TILE_WORDS];
                let slots = w[layout::TILE_KIND] == layout::KIND_SLOTS;
                DecodedTile {
                    kind: w[layout::TILE_KIND],
                    start: w[layout::TILE_START] as usize,
                    keys: w[layout::TILE_KEYS] as usize,
                    whole: w[layout::TILE_WHOLE_LO] as usize..w[layout::TILE_WHOLE_HI] as usize,
                    position: if slots { 0 } else { i64::from(w[layout::TILE_POSITION]) },
                    first_row: if slots { w[layout::TILE_FIRST_ROW] as usize } else { 0 },
                    row_block: self.step(i as usize).map_or(0, |(block, ..)| block),
                    full: w[layout::TILE_FULL] == 1,
                    key_base: i64::from(w[layout::TILE_KEY_BASE]),
                }
            })
            .collect()
    }

    /// Row block, whether a copy begins, and the copy of a table entry; `None` where query tiles are one block.
    fn step(&self, entry: usize) -> Option<(usize, bool, usize)> {
        (self.tiling.row_block() < self.tiling.q_tile()).then(|| {
            let word = self.meta[self.header(layout::STEPS) + entry];
            let block = word & (layout::STEP_FRESH - 1);
            let copy = word >> layout::STEP_COPY_SHIFT;
            (block as usize, word & layout::STEP_FRESH != 0, copy as usize)
        })
    }

    /// Size of a tile, existing keys or not.
    fn tile_size(&self, tile: &DecodedTile) -> usize {
        if tile.kind == layout::KIND_SLOTS { self.tiling.own_tile() } else { self.tiling.kv_tile() }
    }

    fn key(&self, tile: &DecodedTile, j: usize) -> At {
        match tile.kind {
            layout::KIND_PAGES => At::Page {
                page: self.meta[self.header(layout::PAGES) + tile.start + j / self.page_size],
                slot: j % self.page_size,
            },
            layout::KIND_TOKENS if !is_tpu(self.tiling) => At::Token((tile.start + j) as i32),
            layout::KIND_TOKENS | layout::KIND_SLOTS => {
                At::Token(self.meta[self.header(layout::SLOTS) + tile.start + j])
            }
            other => panic!("tile kind {other}"),
        }
    }

    fn sees(&self, row: usize, tile: &DecodedTile, j: usize) -> bool {
        (tile.full && j < tile.keys) || self.sees_masked(row, tile, j)
    }

    /// Visibility as of an edge tile, whether or not the tile says that no mask is needed.
    fn sees_masked(&self, row: usize, tile: &DecodedTile, j: usize) -> bool {
        let row_block = self.tiling.row_block();
        let in_tile = row % row_block;
        if row % self.tiling.q_tile() / row_block != tile.row_block {
            return false;
        }
        let computed = tile.kind != layout::KIND_SLOTS
            || (tile.first_row..tile.first_row + self.tiling.slot_rows()).contains(&in_tile);
        let whole = tile.whole.contains(&in_tile)
            && mask::in_window(self.row(layout::POSITION, row), tile.position + j as i64, self.window);
        let (number, own_key) = (tile.key_base + j as i64, self.row(layout::OWN_KEY, row));
        let own = (self.row(layout::OWN_START, row)..=own_key).contains(&number)
            && mask::in_window(own_key, number, self.window);
        j < tile.keys && computed && (whole || own)
    }

    /// What every row of the bucket sees, in the order of the visits.
    fn expand(&self) -> Vec<Vec<At>> {
        let mut seen = vec![Vec::new(); self.rows];
        for q_tile in 0..self.header(layout::NUM_Q_TILES) {
            for tile in self.tiles(q_tile) {
                let first = q_tile * self.tiling.q_tile();
                for (i, seen) in seen[first..first + self.tiling.q_tile()].iter_mut().enumerate() {
                    let visible = (0..self.tile_size(&tile)).filter(|&j| self.sees(first + i, &tile, j));
                    seen.extend(visible.map(|j| self.key(&tile, j)));
                }
            }
        }
        seen
    }
}

fn planner(batch: &Batch, tiling: Tiling, window: Option<u32>) -> Planner {
    let planner = Planner::new(batch.page_size, batch.pool_pages, tiling).unwrap().with_gaps();
    planner.with_sliding_window(window)
}

fn decode<'a>(plan: &'a Plan, batch: &Batch, window: Option<u32>) -> Decoded<'a> {
    Decoded {
        meta: plan.meta(),
        rows: plan.bucket().tokens,
        tiling: plan.tiling(),
        page_size: batch.page_size,
        window,
    }
}

fn cases() -> impl Strategy<Value = (Batch, Tiling, Option<u32>)> {
    page_sizes()
        .prop_flat_map(|page_size| (batches_with_gaps(page_size), tilings_of_all_kinds(page_size), windows()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rows_see_what_the_mask_says((batch, tiling, window) in cases()) {
        let plan = planner(&batch, tiling, window).plan(batch.total_tokens, &batch.groups()).unwrap();
        let decoded = decode(&plan, &batch, window);
        let rows = plan.bucket().tokens;
        let (seen, expected) = (decoded.expand(), expected(&batch, rows, tiling, window));
        for row in 0..batch.total_tokens {
            prop_assert_eq!(&seen[row], &expected[row], "row {}", row);
        }
        // Only full tiles, which nobody masks, show anything to padding rows.
        let last = batch.total_tokens.div_ceil(plan.tiling().q_tile()) - 1;
        let in_full: usize = decoded.tiles(last).iter().filter(|t| t.full).map(|t| t.keys).sum();
        for (row, seen) in seen.iter().enumerate().skip(batch.total_tokens) {
            let most = if row / plan.tiling().q_tile() == last { in_full } else { 0 };
            prop_assert_eq!(seen.len(), most, "padding row {}", row);
        }
    }

    #[test]
    fn positions_restart_for_every_segment((batch, tiling, window) in cases()) {
        let plan = planner(&batch, tiling, window).plan(batch.total_tokens, &batch.groups()).unwrap();
        let mut expected = vec![0; plan.bucket().tokens];
        for group in batch.groups() {
            for (row, _, position) in new_tokens(&group) {
                expected[row] = position as i32;
            }
        }
        prop_assert_eq!(plan.positions(), expected);
        prop_assert_eq!(plan.num_tokens(), batch.total_tokens);
        prop_assert_eq!(plan.meta()[layout::NUM_TOKENS] as usize, batch.total_tokens);
    }

    #[test]
    fn short_segments_keep_their_alignment((batch, tiling, window) in cases()) {
        let plan = planner(&batch, tiling, window).plan(batch.total_tokens, &batch.groups()).unwrap();
        let decoded = decode(&plan, &batch, window);
        let own_tile = plan.tiling().own_tile();
        for group in batch.groups() {
            for (segment, ends) in group.cu_seg_lens.windows(2).enumerate() {
                let len = (ends[1] - ends[0]) as usize;
                if len == 0 || len > plan.tiling().short_segment() || (group.lead && segment == 0) {
                    continue;
                }
                let first = decoded.row(layout::OWN_START, ends[0] as usize) as usize - decoded.rows;
                prop_assert_eq!(first % len.next_power_of_two().min(own_tile), 0);
                let tiles = (first + len - 1) / own_tile - first / own_tile + 1;
                prop_assert_eq!(tiles, len.div_ceil(own_tile));
            }
        }
    }

    /// A kernel may read any tile whole, existing keys or not, without leaving the tensor.
    #[test]
    fn whole_tile_reads_stay_inside((batch, tiling, window) in cases()) {
        let plan = planner(&batch, tiling, window).plan(batch.total_tokens, &batch.groups()).unwrap();
        let bucket = plan.bucket();
        prop_assert_eq!(plan.meta().len(), bucket.meta_words);
        prop_assert_eq!(bucket.q_tile, plan.tiling().q_tile());
        prop_assert!(bucket.tokens.is_multiple_of(bucket.q_tile));
        let decoded = decode(&plan, &batch, window);
        for q_tile in 0..decoded.header(layout::NUM_Q_TILES) {
            for tile in decoded.tiles(q_tile) {
                let size = decoded.tile_size(&tile);
                prop_assert!((1..=size).contains(&tile.keys));
                match tile.kind {
                    layout::KIND_PAGES => {
                        let end = decoded.header(layout::PAGES) + tile.start + size / batch.page_size;
                        prop_assert!(end <= bucket.meta_words);
                    }
                    layout::KIND_TOKENS if !is_tpu(tiling) => {
                        prop_assert!(tile.start + tile.keys <= batch.total_tokens);
                    }
                    _ => {
                        if is_tpu(tiling) {
                            prop_assert!(tile.start.is_multiple_of(TpuTiling::RUN_ALIGN.min(size)));
                            prop_assert!(tile.start + size <= bucket.key_slots);
                        }
                        let slots = &plan.meta()[decoded.header(layout::SLOTS) + tile.start..][..size];
                        prop_assert!(slots.iter().all(|&token| (token as usize) < bucket.tokens));
                    }
                }
            }
        }
    }

    /// A tile over a prefix, a lead or a long segment goes without mask exactly when no real row needs one of its own.
    #[test]
    fn full_tiles_are_those_that_need_no_mask((batch, tiling, window) in cases()) {
        let plan = planner(&batch, tiling, window).plan(batch.total_tokens, &batch.groups()).unwrap();
        let decoded = decode(&plan, &batch, window);
        let q = plan.tiling().q_tile();
        for q_tile in 0..plan.stats().q_tiles {
            for tile in decoded.tiles(q_tile).iter().filter(|t| t.kind != layout::KIND_SLOTS) {
                let mut real = q_tile * q..((q_tile + 1) * q).min(batch.total_tokens);
                // A short tile is full too where the kernel takes care of the keys that it lacks.
                let short = is_tpu(tiling) && tile.keys >= TpuTiling::RUN_ALIGN;
                let needed = if short { tile.keys } else { decoded.tile_size(tile) };
                let all_seen = real.all(|row| {
                    (0..needed).all(|j| decoded.sees_masked(row, tile, j))
                });
                let one_block = plan.tiling().row_block() == q;
                prop_assert_eq!(tile.full, all_seen && one_block, "a tile of query tile {}", q_tile);
            }
        }
    }

    /// `Plan::tiles` and `Plan::stats` say what the words say, and no tile is visited for nothing.
    #[test]
    fn tiles_are_listed_and_needed((batch, tiling, _) in cases()) {
        let plan = planner(&batch, tiling, None).plan(batch.total_tokens, &batch.groups()).unwrap();
        let decoded = decode(&plan, &batch, None);
        let q = plan.tiling().q_tile();
        let (mut full, mut edge) = (0, 0);
        for q_tile in 0..plan.bucket().tokens / q {
            let tiles: Vec<_> = plan.tiles(q_tile).collect();
            if q_tile >= plan.stats().q_tiles {
                prop_assert!(tiles.is_empty());
                continue;
            }
            let words = decoded.tiles(q_tile);
            prop_assert_eq!(tiles.len(), words.len());
            for (tile, word) in tiles.iter().zip(&words) {
                let kind = match tile.source {
                    TileSource::Pages => layout::KIND_PAGES,
                    TileSource::Tokens => layout::KIND_TOKENS,
                    TileSource::Slots => layout::KIND_SLOTS,
                };
                prop_assert_eq!((kind, tile.start, tile.keys), (word.kind, word.start, word.keys));
                prop_assert_eq!(tile.whole_rows, (word.whole.start, word.whole.end));
                prop_assert_eq!((tile.position as i64, tile.first_row), (word.position, word.first_row));
                prop_assert_eq!((tile.full, tile.row_block), (word.full, word.row_block));
                if tile.full { full += 1 } else { edge += 1 }
                let real = q_tile * q..((q_tile + 1) * q).min(batch.total_tokens);
                let used = real.clone().any(|row| (0..tile.keys).any(|j| decoded.sees(row, word, j)));
                prop_assert!(used, "{:?} of query tile {} has no visible pair", tile, q_tile);
            }
        }
        prop_assert_eq!((full, edge), (plan.stats().full_tiles, plan.stats().edge_tiles));
    }

    /// Row blocks of one key tile lie behind one another and share a copy; every copy is listed with its first entry.
    #[test]
    fn row_blocks_share_copies((batch, tiling, window) in cases()) {
        let plan = planner(&batch, tiling, window).plan(batch.total_tokens, &batch.groups()).unwrap();
        let decoded = decode(&plan, &batch, window);
        let tiles: Vec<_> = (0..plan.stats().q_tiles).map(|t| decoded.tiles(t)).collect();
        let mut copies = Vec::new();
        let (mut entry, mut before) = (0, None);
        for tiles in &tiles {
            let kept: HashSet<_> = tiles.iter().map(|t| (t.kind, t.start)).collect();
            let changes = tiles.windows(2).filter(|w| (w[0].kind, w[0].start) != (w[1].kind, w[1].start));
            if plan.tiling().row_block() < plan.tiling().q_tile() {
                prop_assert_eq!(kept.len(), tiles.len().min(1) + changes.count(), "a tile is copied twice");
            }
            for tile in tiles {
                let Some((_, fresh, copy)) = decoded.step(entry) else { return Ok(()) };
                prop_assert_eq!(fresh, before != Some((tile.kind, tile.start)));
                if fresh {
                    copies.push(entry as i32);
                }
                prop_assert_eq!(copy + 1, copies.len());
                before = Some((tile.kind, tile.start));
                entry += 1;
            }
        }
        let at = decoded.header(layout::COPIES);
        prop_assert_eq!(plan.meta()[at - 1] as usize, copies.len());
        prop_assert_eq!(&plan.meta()[at..at + copies.len()], &copies[..]);
    }

    /// A planner keeps nothing of a batch: the same batch gives the same plan after any other.
    #[test]
    fn plans_do_not_depend_on_history(
        (batch, tiling, window) in cases(),
        other_tokens in 1..200i32,
    ) {
        let mut used = planner(&batch, tiling, window);
        let fresh = used.plan(batch.total_tokens, &batch.groups()).unwrap();
        let other = [0, other_tokens];
        used.plan(other_tokens as usize, &[Group { cu_seg_lens: &other, ..Group::default() }]).unwrap();
        prop_assert_eq!(used.plan(batch.total_tokens, &batch.groups()).unwrap(), fresh);
    }
}

/// Compositions of one size share a bucket or two (the room for tables steps by quarter octaves), and sizes share
/// few: each bucket is a program to compile.
#[test]
fn compositions_share_buckets() {
    let tiling = Tiling::portable(256, 512, 128, 128).unwrap();
    let bucket = |total: usize, seed: u64| {
        let mut random = Random::new(seed);
        let mut segments = vec![total / 2];
        let mut left = total - total / 2;
        while left > 0 {
            let len = (1 + random.below(24)).min(left);
            segments.push(len);
            left -= len;
        }
        let prefix_len = random.below(100);
        let batch = Batch::new(128, &[GroupShape { prefix_len, lead: true, segments }], seed);
        let plan = planner(&batch, tiling, None).plan(total, &batch.groups()).unwrap();
        assert_eq!(
            (plan.meta().len(), plan.positions().len()),
            (plan.bucket().meta_words, plan.bucket().tokens)
        );
        plan.bucket()
    };
    for total in [40, 512, 2000] {
        let buckets: HashSet<_> = (0..100).map(|seed| bucket(total, seed)).collect();
        assert!(buckets.len() <= 2, "{total} tokens: {buckets:?}");
    }
    let buckets: HashSet<_> = (2..=4096).map(|total| bucket(total, total as u64)).collect();
    assert!(buckets.len() <= 40, "{} buckets", buckets.len());
}
