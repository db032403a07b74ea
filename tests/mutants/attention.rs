use std::ops::Range;

use tpu_rpa::batch::{Plan, layout};
use tpu_rpa::kernels;
use tpu_rpa::reference::Rounding;
use tpu_rpa::spec::AttentionSpec;

use crate::common::{Batch, Errors, GroupShape, Tensors, score_size};
use crate::mosaic::{MosaicAttention, mosaic_plan, mosaic_tiling};
use crate::seeding::{
    Edit, Killed, Mutant, WordEdit, diagnosis, drop_line, emulator, orders, replace, seed, seed_words,
};

const KERNEL: &str = "attention";

/// A batch with every kind of tile, over several query tiles.
struct Case {
    spec: AttentionSpec,
    batch: Batch,
    plan: Plan,
    tensors: Tensors<f32>,
}

/// Rows of the first group's lead and of its second item.
const LEAD: Range<usize> = 0..140;
const ITEM: Range<usize> = 160..193;

impl Case {
    fn new(spec: AttentionSpec) -> Self {
        let shapes = [
            GroupShape { prefix_len: 150, lead: true, segments: vec![140, 20, 33, 1, 7] },
            GroupShape { prefix_len: 20, lead: false, segments: vec![100, 3] },
            GroupShape { prefix_len: 0, lead: false, segments: vec![1, 5] },
        ];
        Self::of(spec, &shapes)
    }

    fn of(spec: AttentionSpec, shapes: &[GroupShape]) -> Self {
        let batch = Batch::new(spec.page_size(), shapes, 2);
        let plan = mosaic_plan(&spec, mosaic_tiling(&spec, 128, 64), &batch);
        let tensors = Tensors::random(&spec, &batch, plan.bucket().tokens, 6);
        Case { spec, batch, plan, tensors }
    }

    fn text(&self) -> String {
        let (tiling, bucket) = (self.plan.tiling(), self.plan.bucket());
        kernels::attention_mosaic("attention", &self.spec, &tiling, &bucket, self.batch.pool_pages).unwrap()
    }

    fn check(&self, text: &str, words: &[i32]) -> Killed {
        let kernel = || emulator(text);
        for options in orders() {
            let run =
                MosaicAttention::of_words(kernel()?, &self.spec, self.plan.bucket(), words, &self.tensors);
            let (found, outcome) = run.try_run(&options).map_err(|e| diagnosis(&e))?;
            Errors::new(&self.spec, &self.batch, &self.tensors, &found, Rounding::F32)
                .check(1e-6 * score_size(&self.spec))
                .map_err(|_| "f64 reference".to_owned())?;
            let count = |name| outcome.report.count(name) as usize;
            let visited = (count("full_tiles"), count("edge_tiles") + count("slot_tiles"));
            if visited != (self.plan.stats().full_tiles, self.plan.stats().edge_tiles) {
                return Err("tiles visited".to_owned());
            }
        }
        Ok(())
    }

    fn seed(&self, edits: Vec<(&'static str, Edit)>) -> Vec<Mutant> {
        seed(KERNEL, "text", &self.text(), edits, |text| self.check(text, self.plan.meta()))
    }

    fn seed_words(&self, edits: Vec<WordEdit<'_>>) -> Vec<Mutant> {
        let text = self.text();
        seed_words(KERNEL, self.plan.meta(), edits, |words| self.check(&text, words))
    }

    /// Word of the first tile entry of query tile `from` or a later one for which `wanted` holds.
    fn tile(&self, from: usize, wanted: impl Fn(&[i32]) -> bool) -> usize {
        let meta = self.plan.meta();
        let first = meta[meta[layout::TILE_OFFSETS] as usize + from] as usize;
        let last = meta[meta[layout::TILE_OFFSETS] as usize + self.plan.stats().q_tiles] as usize;
        let at = |i: usize| meta[layout::TILES] as usize + i * layout::TILE_WORDS;
        let found = (first..last).find(|&i| wanted(&meta[at(i)..at(i) + layout::TILE_WORDS]));
        at(found.expect("the batch has such a tile"))
    }

    /// Words of a row section.
    fn rows(&self, section: usize, rows: Range<usize>) -> Range<usize> {
        let at = layout::HEADER + section * self.plan.bucket().tokens;
        at + rows.start..at + rows.end
    }
}

pub fn mutants() -> Vec<Mutant> {
    let spec = || AttentionSpec::builder(4, 2, 64).page_size(16);
    let plain = Case::new(spec().build().unwrap());
    let capped = Case::new(spec().soft_cap(2.0).build().unwrap());
    let windowed = Case::new(spec().sliding_window(50).build().unwrap());
    // Padding rows compute what full tiles compute: only where every real row of their query tile is one group's.
    let alone = [GroupShape { prefix_len: 150, lead: false, segments: vec![20] }];
    let padded = Case::of(spec().build().unwrap(), &alone);
    [
        plain.seed(texts()),
        padded.seed(vec![(
            "padding rows keep what they computed",
            replace(
                "%o0_n = arith.select %real_b, %o0_m, %padding",
                "%o0_n = arith.select %real_b, %o0_m, %o0_m",
            ),
        )]),
        capped.seed(vec![(
            "scores are not capped",
            replace("%f0_sc = arith.mulf %f0_tanh,", "%f0_sc = arith.mulf %f0_ratio,"),
        )]),
        windowed.seed(vec![
            (
                "window one key too wide",
                replace("%reach = arith.constant dense<50>", "%reach = arith.constant dense<51>"),
            ),
            (
                "window of the own segment for rows that see a tile whole",
                replace(
                    "%lo = arith.select %whole, %lo_whole, %lo_own",
                    "%lo = arith.select %whole, %lo_own, %lo_own",
                ),
            ),
        ]),
        plain.seed_words(words(&plain)),
        windowed.seed_words(vec![(
            "a tile one position late",
            "tile position + 1",
            Box::new(|w| {
                w[windowed.tile(1, |t| {
                    t[layout::TILE_KIND] == layout::KIND_TOKENS && t[layout::TILE_WHOLE_HI] > 0
                }) + layout::TILE_POSITION] += 1
            }),
        )]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Names in the text: `f`, `e` and `s` are the bodies of full, edge and slot tiles, a digit the KV head; `a` and `b` start
/// copies, `w` awaits them.
fn texts() -> Vec<(&'static str, Edit)> {
    vec![
        (
            "a row sees one key of its future",
            replace("%ones = arith.constant dense<1>", "%ones = arith.constant dense<2>"),
        ),
        (
            "an item sees the items in front of it",
            replace(
                "%lo = arith.select %whole, %zeros, %own_lo",
                "%lo = arith.select %whole, %zeros, %zeros",
            ),
        ),
        (
            "the first key of a segment is hidden",
            replace("%s_ge = arith.cmpi sge,", "%s_ge = arith.cmpi sgt,"),
        ),
        ("one key too many in an edge tile", replace("%e_lt = arith.cmpi slt,", "%e_lt = arith.cmpi sle,")),
        (
            "rows in front of a group see its prefix",
            replace("%whole = arith.andi %in_lo, %in_hi", "%whole = arith.andi %in_hi, %in_hi"),
        ),
        (
            "stale running maximum",
            replace("%e0_mb = vector.broadcast %e0_mn", "%e0_mb = vector.broadcast %e0_mo"),
        ),
        ("running sum not rescaled", replace("%e0_ln = arith.addf %e0_la,", "%e0_ln = arith.addf %e0_lo,")),
        (
            "result not rescaled",
            replace("tpu.matmul %s0_vs, %s0_pl, %s0_as ", "tpu.matmul %s0_vs, %s0_pl, %s0_a "),
        ),
        (
            "values of another head",
            replace(
                "%f1_v4 = vector.load %buf[%slot_i, %i1, %h1,",
                "%f1_v4 = vector.load %buf[%slot_i, %i1, %h0,",
            ),
        ),
        (
            "keys taken for values",
            replace("%e1_v4 = vector.load %buf[%slot_i, %i1,", "%e1_v4 = vector.load %buf[%slot_i, %i0,"),
        ),
        (
            "values behind a tile's keys not replaced",
            replace(
                "%e0_vs = arith.select %e_live, %e0_v, %e_v0",
                "%e0_vs = arith.select %e_live, %e0_v, %e0_v",
            ),
        ),
        (
            "hidden scores not replaced",
            replace(
                "%s0_s = arith.select %s_sees, %s0_sc, %s_hidden",
                "%s0_s = arith.select %s_sees, %s0_sc, %s0_sc",
            ),
        ),
        (
            "scores not scaled",
            replace("%f0_sc = arith.mulf %f0_qk, %f_factor", "%f0_sc = arith.addf %f0_qk, %f_s0"),
        ),
        ("base e for base 2", replace("%s1_p = math.exp2 %s1_d", "%s1_p = math.exp %s1_d")),
        ("pages not awaited", drop_line("src(%w_psrc")),
        (
            "next tile copied over this one",
            replace("%b_slot = arith.subi %c1, %slot", "%b_slot = arith.addi %c0, %slot"),
        ),
        (
            "last tile skipped",
            replace(
                "scf.for %i = %first to %end",
                "%less = arith.subi %end, %c1 : i32\nscf.for %i = %first to %less",
            ),
        ),
        (
            "every query tile visits the first one's tiles",
            replace("%oa = arith.addi %offsets_at, %tc", "%oa = arith.addi %offsets_at, %c0"),
        ),
        (
            "pages of another group",
            replace("%a_list = arith.addi %pages_at, %a_start", "%a_list = arith.addi %pages_at, %c0"),
        ),
        (
            "all pages in one place",
            replace("%b_row = arith.muli %b_j, %b_ps", "%b_row = arith.muli %c0, %b_ps"),
        ),
    ]
}

fn words(case: &Case) -> Vec<WordEdit<'_>> {
    let pages = |t: &[i32]| t[layout::TILE_KIND] == layout::KIND_PAGES;
    let edge = move |t: &[i32]| pages(t) && t[layout::TILE_FULL] == 0;
    let page_list = case.plan.meta()[layout::PAGES] as usize;
    let slot_map = case.plan.meta()[layout::SLOTS] as usize;
    let offsets = case.plan.meta()[layout::TILE_OFFSETS] as usize;
    let last_prefix = case.tile(0, move |t| pages(t) && t[layout::TILE_KEYS] < 128);
    let run = case.tile(1, |t| t[layout::TILE_KIND] == layout::KIND_TOKENS);
    vec![
        (
            "a row owns its neighbour's key",
            "own key + 1",
            Box::new(|w| w[case.rows(layout::OWN_KEY, ITEM).start + 4] += 1),
        ),
        (
            "an item starts one key early",
            "own start - 1",
            Box::new(|w| w[case.rows(layout::OWN_START, ITEM)].iter_mut().for_each(|x| *x -= 1)),
        ),
        (
            "the lead starts one key late",
            "own start + 1",
            Box::new(|w| w[case.rows(layout::OWN_START, LEAD)].iter_mut().for_each(|x| *x += 1)),
        ),
        ("the first tile is left out", "tile offset + 1", Box::new(move |w| w[offsets] += 1)),
        (
            "a tile twice, its neighbour never",
            "entry copied over the next",
            Box::new(move |w| {
                let at = case.tile(0, pages);
                w.copy_within(at..at + layout::TILE_WORDS, at + layout::TILE_WORDS);
            }),
        ),
        (
            "two pages in each other's place",
            "first and last entry of a page list swapped",
            Box::new(move |w| w.swap(page_list, page_list + 9)),
        ),
        ("a page that the pool lacks", "page id 1000", Box::new(move |w| w[page_list] = 1000)),
        (
            "one key behind the prefix",
            "tile keys + 1",
            Box::new(move |w| w[last_prefix + layout::TILE_KEYS] += 1),
        ),
        (
            "the prefix's last key is missing",
            "tile keys - 1",
            Box::new(move |w| w[last_prefix + layout::TILE_KEYS] -= 1),
        ),
        (
            "a row of the group does not see the prefix",
            "whole rows' end - 1",
            Box::new(move |w| w[last_prefix + layout::TILE_WHOLE_HI] -= 1),
        ),
        (
            "an edge tile said to be full",
            "tile full = 1",
            Box::new(move |w| w[case.tile(2, edge) + layout::TILE_FULL] = 1),
        ),
        (
            "keys of the neighbouring run",
            "tile start + 16",
            Box::new(move |w| w[run + layout::TILE_START] += 16),
        ),
        (
            "a tile that starts where no copy may",
            "tile start + 1",
            Box::new(move |w| w[run + layout::TILE_START] += 1),
        ),
        (
            "keys numbered one too high",
            "tile key base + 1",
            Box::new(move |w| w[run + layout::TILE_KEY_BASE] += 1),
        ),
        (
            "two tokens in each other's slot",
            "slot map entries swapped",
            Box::new(move |w| w.swap(slot_map, slot_map + 1)),
        ),
        ("the last query tile is forgotten", "query tiles - 1", Box::new(|w| w[layout::NUM_Q_TILES] -= 1)),
    ]
}
