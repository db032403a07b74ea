use std::ops::Range;

use half::bf16;
use ndarray::{Axis, s};
use tpu_rpa::batch::{Plan, Tiling, layout};
use tpu_rpa::emulator::{self, RunOptions};
use tpu_rpa::kernels;
use tpu_rpa::reference::{self, Rounding};
use tpu_rpa::spec::{AttentionSpec, DType};

use crate::seeding::{
    self, Edit, Killed, Mutant, WordEdit, diagnosis, drop_line, orders, replace, seed, seed_words,
};
use common::mosaic::{MosaicAttention, mosaic_plan, mosaic_tiling, row_block_tiling};
use common::{Batch, Element, Errors, GroupShape, Tensors, score_size};

const KERNEL: &str = "attention";

/// A batch with every kind of tile, over several query tiles.
struct Case<E = f32> {
    spec: AttentionSpec,
    batch: Batch,
    plan: Plan,
    tensors: Tensors<E>,
}

/// Rows of the first group's lead and of its second item.
const LEAD: Range<usize> = 0..140;
const ITEM: Range<usize> = 160..193;

impl<E: Element + emulator::Element> Case<E> {
    fn new(spec: AttentionSpec) -> Self {
        let shapes = [
            GroupShape { prefix_len: 150, lead: true, segments: vec![140, 20, 33, 1, 7] },
            GroupShape { prefix_len: 20, lead: false, segments: vec![100, 3] },
            GroupShape { prefix_len: 0, lead: false, segments: vec![1, 5] },
        ];
        Self::of(spec, &shapes)
    }

    fn of(spec: AttentionSpec, shapes: &[GroupShape]) -> Self {
        let tiling = mosaic_tiling(&spec, 128, 64);
        Self::tiled(spec, tiling, shapes)
    }

    fn tiled(spec: AttentionSpec, tiling: Tiling, shapes: &[GroupShape]) -> Self {
        let batch = Batch::new(spec.page_size(), shapes, 2);
        let plan = mosaic_plan(&spec, tiling, &batch);
        let tensors = Tensors::random(&spec, &batch, plan.bucket().tokens, 7);
        Case { spec, batch, plan, tensors }
    }

    fn text(&self) -> String {
        let (tiling, bucket) = (self.plan.tiling(), self.plan.bucket());
        let pool_pages = self.tensors.pool_pages();
        kernels::attention_mosaic("attention", &self.spec, &tiling, &bucket, pool_pages).unwrap()
    }

    fn check(&self, text: &str, words: &[i32]) -> Killed {
        let kernel = || seeding::emulator(text);
        for options in orders() {
            let run =
                MosaicAttention::of_words(kernel()?, &self.spec, self.plan.bucket(), words, &self.tensors);
            let (found, outcome) = run.try_run(&options).map_err(|e| diagnosis(&e))?;
            let (rounding, luck) = match self.spec.dtype() {
                DType::F32 => (Rounding::F32, 1e-6 * score_size(&self.spec)),
                _ => (Rounding::Bf16Operands, 1.0 / 256.0),
            };
            Errors::new(&self.spec, &self.batch, &self.tensors, &found, rounding)
                .check(luck)
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

fn spec_of_pairs() -> AttentionSpec {
    AttentionSpec::builder(4, 2, 128).page_size(16).dtype(DType::Bf16).build().unwrap()
}

pub fn mutants() -> Vec<Mutant> {
    let spec = || AttentionSpec::builder(4, 2, 64).page_size(16);
    let plain = Case::<f32>::new(spec().build().unwrap());
    let capped = Case::<f32>::new(spec().soft_cap(2.0).build().unwrap());
    let windowed = Case::<f32>::new(spec().sliding_window(50).build().unwrap());
    let halves = Case::<bf16>::new(spec().dtype(DType::Bf16).build().unwrap());
    // Padding rows compute what full tiles compute: only where every real row of their query tile is one group's.
    let alone = [GroupShape { prefix_len: 150, lead: false, segments: vec![20] }];
    let padded = Case::<f32>::of(spec().build().unwrap(), &alone);
    // Scores far below those of keys that are zero.
    let mut low = Case::<f32>::of(spec().build().unwrap(), &alone);
    let to = |x: &mut f32, value: f32| *x = if x.is_nan() { *x } else { value };
    low.tensors.q.iter_mut().for_each(|x| to(x, 4.0));
    low.tensors.k.iter_mut().for_each(|x| to(x, -8.0));
    let mut keys = low.tensors.kv_pages.index_axis_mut(Axis(1), 0);
    keys.iter_mut().for_each(|x| to(x, -8.0));
    // Two row blocks a query tile, two heads a product; long and short sequences on long and short prefixes.
    let spec_of_pairs = spec_of_pairs();
    let tiling = row_block_tiling(&spec_of_pairs, 128, 64, 2);
    let sequences = [(700, 5), (30, 50), (350, 30), (0, 100), (1240, 1), (64, 3), (130, 70)]
        .map(|(prefix_len, new)| GroupShape { prefix_len, lead: false, segments: vec![new] });
    let blocks = Case::<bf16>::tiled(spec_of_pairs, tiling, &sequences);
    [
        blocks.seed(row_blocks()),
        blocks.seed_words(step_words(&blocks)),
        plain.seed(texts()),
        refused(&plain),
        numbers(&plain),
        halves.seed(terms()),
        padded.seed(vec![(
            "padding rows keep what they computed",
            replace(
                "%ko0_n = arith.select %k_real_b, %ko0_m, %k_padding",
                "%ko0_n = arith.select %k_real_b, %ko0_m, %ko0_m",
            ),
        )]),
        low.seed(vec![(
            "a short full tile lacks keys of score 0",
            replace(
                "%x_k0_r = arith.select %x_there, %x_k0_f, %x_none",
                "%x_k0_r = arith.select %x_there, %x_none, %x_none",
            ),
        )]),
        capped.seed(vec![(
            "scores are not capped",
            replace("%kfa0_capped = arith.mulf %kfa0_tanh,", "%kfa0_capped = arith.mulf %kfa0_sc,"),
        )]),
        windowed.seed(vec![
            (
                "window one key too wide",
                replace("%ke_reach = arith.constant dense<50>", "%ke_reach = arith.constant dense<51>"),
            ),
            (
                "window of the own segment for rows that see a tile whole",
                replace(
                    "%ke_lo = arith.select %ke_whole, %ke_whole_lo, %ke_own_lo",
                    "%ke_lo = arith.select %ke_whole, %ke_own_lo, %ke_own_lo",
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

/// Plans that a kernel may not run: those of other kernels, random words, and pages that do not lie in the pool from the first
/// page on. No copy is made, and every row is NaN.
fn refused(case: &Case<f32>) -> Vec<Mutant> {
    let all_nan = |text: &str, words: &[i32], first_page: i32| -> Killed {
        let mut tensors = Tensors { first_page, ..case.tensors.clone() };
        // Pages of others hold numbers.
        tensors.kv_pages.mapv_inplace(|x| if x.is_nan() { 1.0 } else { x });
        let kernel = seeding::emulator(text)?;
        let run = MosaicAttention::of_words(kernel, &case.spec, case.plan.bucket(), words, &tensors);
        let options = RunOptions::default().max_steps(3_000_000);
        let (found, outcome) = run.try_run(&options).map_err(|e| diagnosis(&e))?;
        if !found.iter().all(|x| x.is_nan()) {
            return Err("NaN without its plan".to_owned());
        }
        let visits = ["full_tiles", "edge_tiles", "slot_tiles"].map(|tiles| outcome.report.count(tiles));
        if visits == [0; 3] { Ok(()) } else { Err("tiles visited".to_owned()) }
    };
    let own = case.plan.meta();
    let others = |text: &str, words: &[i32]| -> Killed {
        let mut words = words.to_vec();
        for identity in [0, words[layout::IDENTITY] ^ 2, -1] {
            words[layout::IDENTITY] = identity;
            all_nan(text, &words, case.tensors.first_page)?;
        }
        Ok(())
    };
    let outside = |text: &str, words: &[i32]| -> Killed {
        let most = (case.tensors.pool_pages() - case.batch.pool_pages) as i32;
        [-1, most + 1, i32::MIN, i32::MAX].iter().try_for_each(|&first| all_nan(text, words, first))
    };
    let text = case.text();
    let mut mutants = seed(
        KERNEL,
        "text",
        &text,
        vec![
            (
                "a plan of another kernel is run",
                replace("%taken = arith.andi %is_ours, %in_pool", "%taken = arith.andi %in_pool, %in_pool"),
            ),
            (
                "rows of a refused plan are those of padding",
                replace(
                    "%refused = arith.constant dense<0x7FC00000>",
                    "%refused = arith.constant dense<0.0>",
                ),
            ),
            (
                "tiles of a refused plan are copied",
                replace(
                    "%total = arith.select %taken, %all_tiles, %c0",
                    "%total = arith.select %taken, %all_tiles, %all_tiles",
                ),
            ),
            (
                "tiles of a refused plan are computed",
                replace(
                    "%q_tiles = arith.select %taken, %listed_tiles, %c0",
                    "%q_tiles = arith.select %taken, %listed_tiles, %listed_tiles",
                ),
            ),
        ],
        |text| others(text, own),
    );
    mutants.extend(seed(
        KERNEL,
        "text",
        &text,
        vec![
            (
                "pages outside the pool are read",
                replace("%taken = arith.andi %is_ours, %in_pool", "%taken = arith.andi %is_ours, %is_ours"),
            ),
            (
                "a first page below the pool",
                replace(
                    "%in_pool = arith.andi %not_below, %not_above",
                    "%in_pool = arith.andi %not_above, %not_above",
                ),
            ),
            (
                "the pool is longer than it is",
                replace("%most = arith.subi %pool, %plan_pool", "%most = arith.addi %pool, %c0"),
            ),
        ],
        |text| outside(text, own),
    ));
    let edit: WordEdit<'_> =
        ("a pool that seems a page smaller", "pool pages - 1", Box::new(|w| w[layout::POOL_PAGES] -= 1));
    mutants.extend(seed_words(KERNEL, own, vec![edit], |words| outside(&text, words)));
    let edit: WordEdit<'_> =
        ("a plan that says it is another kernel's", "identity", Box::new(|w| w[layout::IDENTITY] ^= 2));
    mutants.extend(seed_words(KERNEL, own, vec![edit], |words| case.check(&text, words)));
    mutants
}

/// What is no number, or far from others, must stay so: asked of one row of the lead.
fn numbers(case: &Case<f32>) -> Vec<Mutant> {
    let row = LEAD.start + 5;
    // Its query, and the first keys: those that it sees, or all new ones.
    let with = |query: f32, key: f32, new_keys: usize| {
        let mut tensors = case.tensors.clone();
        tensors.q.slice_mut(s![row, .., ..]).fill(query);
        tensors.k.slice_mut(s![..new_keys, .., ..]).fill(key);
        let mut keys = tensors.kv_pages.index_axis_mut(Axis(1), 0);
        keys.iter_mut().for_each(|x| *x = if x.is_nan() { *x } else { key });
        tensors
    };
    let far = 2f32.powi(54);
    let cases = [
        ("NaN", with(f32::NAN, 1.0, row + 1)),
        ("scores of minus infinity", with(f32::NEG_INFINITY, 1.0, case.batch.total_tokens)),
        ("scores far below those of hidden keys", with(far, -far, row + 1)),
    ];
    let check = |text: &str| -> Killed {
        for (what, tensors) in &cases {
            let kernel = seeding::emulator(text)?;
            let (bucket, words) = (case.plan.bucket(), case.plan.meta());
            let run = MosaicAttention::of_words(kernel, &case.spec, bucket, words, tensors);
            let (found, _) = run.try_run(&RunOptions::default()).map_err(|e| diagnosis(&e))?;
            let exact = reference::attention(&case.spec, &tensors.inputs(), &case.batch.groups());
            let of_row = s![row, .., ..];
            let agree = |(&found, &exact): (&f32, &f64)| match exact.is_nan() {
                true => found.is_nan(),
                false => (f64::from(found) - exact).abs() < 1e-5,
            };
            if !found.slice(of_row).iter().zip(exact.slice(of_row)).all(agree) {
                return Err(format!("f64 reference: {what}"));
            }
        }
        Ok(())
    };
    let sum = "%ko0_inv = tpu.reciprocal %ko0_l {";
    let guarded = "%ko0_tiny = arith.constant dense<1.0e-30> : vector<1x128xf32>\n    \
                   %ko0_some = arith.maximumf %ko0_l, %ko0_tiny : vector<1x128xf32>\n    \
                   %ko0_inv = tpu.reciprocal %ko0_some {";
    let edits = vec![
        (
            "running maxima start at a number that scores have",
            replace("%fb_m0 = arith.constant dense<0xFF7FFFFF>", "%fb_m0 = arith.constant dense<-1.0e+20>"),
        ),
        (
            "hidden scores are numbers that others have",
            replace(
                "%ke_hidden = arith.constant dense<0xFF800000>",
                "%ke_hidden = arith.constant dense<-1.0e+30>",
            ),
        ),
        ("a sum of 0 gives 0", replace(sum, guarded)),
        (
            "rows of NaN taken for padding",
            replace(
                "%ko0_n = arith.select %k_real_b, %ko0_m,",
                "%ko0_n = arith.select %k_real_b, %k_padding,",
            ),
        ),
    ];
    seed(KERNEL, "text", &case.text(), edits, check)
}

/// Edits of the form with several row blocks, two heads of 128 a product.
fn row_blocks() -> Vec<(&'static str, Edit)> {
    vec![
        (
            "one of two heads sees the other's keys",
            replace(
                "%blank = arith.constant dense<0.000000e+00>",
                "%blank = arith.constant dense<1.000000e+00>",
            ),
        ),
        (
            "two heads with the keys of one",
            replace(
                "%kea0_kk = tpu.concatenate %kea0_k0, %kea0_k1",
                "%kea0_kk = tpu.concatenate %kea0_k0, %kea0_k0",
            ),
        ),
        (
            "one of two heads rescaled by the other's factor",
            replace(
                "%kec1_al = vector.extract_strided_slice %keb0_al offsets = [0, 128]",
                "%kec1_al = vector.extract_strided_slice %keb0_al offsets = [0, 0]",
            ),
        ),
        (
            "probabilities of the other head of two",
            replace("%kec1_lanes = arith.constant 128", "%kec1_lanes = arith.constant 0"),
        ),
        (
            "the sum of the other head of two",
            replace("%fo1_lanes = arith.constant 128", "%fo1_lanes = arith.constant 0"),
        ),
        (
            "a mask of the first row block for all",
            replace("%ke_lane32 = arith.muli %x_blk, %ke_lanes", "%ke_lane32 = arith.muli %c0, %ke_lanes"),
        ),
        (
            "queries of the first row block for all",
            replace("%p_row32 = arith.muli %p_blk, %rows_b", "%p_row32 = arith.muli %c0, %rows_b"),
        ),
        (
            "results of a row block where the next tile's belong",
            replace(
                "tpu.vector_store %acc[%c_block, %h0, %i0, %i0], %kec0_on3",
                "tpu.vector_store %acc[%x_block, %h0, %i0, %i0], %kec0_on3",
            ),
        ),
        (
            "the maximum of another row block",
            replace("%kea0_mo3 = vector.load %m[%x_block,", "%kea0_mo3 = vector.load %m[%c_block,"),
        ),
        (
            "the sum of another row block",
            replace("%keb0_lo3 = vector.load %l[%c_block,", "%keb0_lo3 = vector.load %l[%x_block,"),
        ),
        (
            "only the first row block begins anew",
            replace("scf.for %p_blk = %c0 to %blocks", "scf.for %p_blk = %c0 to %c1"),
        ),
        (
            "only the first row block leaves",
            replace("scf.for %f_blk = %c0 to %all_blocks", "scf.for %f_blk = %c0 to %c1"),
        ),
        (
            "a short tile is taken for a long one",
            replace("%this_slots_most = arith.constant 64", "%this_slots_most = arith.constant 32"),
        ),
        (
            "a short tile behind its keys not replaced",
            replace("%x_is_own_most = arith.constant 64", "%x_is_own_most = arith.constant 128"),
        ),
        (
            "every row block copies its tile anew",
            replace("%more = arith.andi %ahead, %c_fresh", "%more = arith.andi %ahead, %ahead"),
        ),
        (
            "every row block awaits its tile anew",
            replace("%follows = arith.andi %another, %x_fresh", "%follows = arith.andi %another, %another"),
        ),
        (
            "copies are tiles of the list's first entries",
            replace("%b_ca = arith.addi %copies_at, %bi", "%b_ca = arith.addi %copies_at, %b_slot"),
        ),
    ]
}

/// Edits of the words that only plans with several row blocks have.
fn step_words(case: &Case<bf16>) -> Vec<WordEdit<'_>> {
    let at = |word: usize| case.plan.meta()[word] as usize;
    let (steps, copies) = (at(layout::STEPS), at(layout::COPIES));
    let meta = case.plan.meta();
    let again = (steps + 1..).find(|&i| meta[i] & layout::STEP_FRESH == 0).expect("row blocks share a tile");
    vec![
        ("a step of another row block", "step word, block", Box::new(move |w| w[steps + 2] ^= 1)),
        (
            "a shared tile is copied twice",
            "step word, fresh",
            Box::new(move |w| w[again] |= layout::STEP_FRESH),
        ),
        (
            "a step of another copy",
            "step word, copy",
            Box::new(move |w| w[steps + 3] += 1 << layout::STEP_COPY_SHIFT),
        ),
        ("a copy of another entry's tile", "copies[5] + 1", Box::new(move |w| w[copies + 5] += 1)),
        ("a copy too few", "number of copies - 1", Box::new(move |w| w[copies - 1] -= 1)),
    ]
}

/// Names in the text: `kf`, `ke`, `ss`, `sf` and `se` are the steps from a wide (`k`) or slot (`s`) tile to a full, edge or slot
/// tile, `k` and `s` those of a query tile's last tile, `fb`, `eb` and `sb` its begin; then `a` stands for scores, `b` for
/// probabilities, `c` and `o` for results, and a digit for the KV head. `a` and `b` start copies, `z` and `x` await them.
fn texts() -> Vec<(&'static str, Edit)> {
    vec![
        (
            "the layer's first page is forgotten",
            replace("%b_page = arith.addi %b_id, %b_base", "%b_page = arith.addi %b_id, %c0"),
        ),
        (
            "a row sees one key of its future",
            replace("%ke_ones = arith.constant dense<1>", "%ke_ones = arith.constant dense<2>"),
        ),
        (
            "an item sees the items in front of it",
            replace(
                "%ss_own_lo = arith.subi %ss_own_start, %ss_base_v",
                "%ss_own_lo = arith.subi %ss_base_v, %ss_base_v",
            ),
        ),
        (
            "a slot tile's keys one too far",
            replace(
                "%sb_off = arith.addi %sb_own_lo, %sb_least",
                "%sb_more = arith.addi %sb_own_lo, %sb_ones : vector<1x128xi32>\n%sb_off = arith.addi %sb_more, %sb_least",
            ),
        ),
        (
            "one key too many in an edge tile",
            replace("%ke_sees = arith.cmpi slt,", "%ke_sees = arith.cmpi sle,"),
        ),
        (
            "rows that see nothing see all",
            replace(
                "%se_some = arith.maxsi %se_span, %se_nought",
                "%se_some = arith.addi %se_span, %se_nought",
            ),
        ),
        (
            "rows in front of a group see its prefix",
            replace(
                "%ke_whole = arith.andi %ke_behind, %ke_before",
                "%ke_whole = arith.andi %ke_before, %ke_before",
            ),
        ),
        (
            "stale running maximum",
            replace("%kea0_mn3 = vector.shape_cast %kea0_mn ", "%kea0_mn3 = vector.shape_cast %kea0_mo "),
        ),
        (
            "maximum of another head",
            replace("%keb1_m3 = vector.load %m[%h1,", "%keb1_m3 = vector.load %m[%h0,"),
        ),
        (
            "running sum not rescaled",
            replace("%keb0_ln = arith.addf %keb0_la,", "%keb0_ln = arith.addf %keb0_lo,"),
        ),
        (
            "result not rescaled",
            replace("tpu.matmul %kec0_v, %kec0_p, %kec0_os ", "tpu.matmul %kec0_v, %kec0_p, %kec0_o "),
        ),
        (
            "rescaled by the next tile's factor",
            replace("%kfc0_alb = vector.broadcast %kfb0_al ", "%kfc0_alb = vector.broadcast %kfa0_al "),
        ),
        (
            "values of another head",
            replace(
                "%kfc1_v5 = vector.load %buf[%slot_i, %i1, %h1,",
                "%kfc1_v5 = vector.load %buf[%slot_i, %i1, %h0,",
            ),
        ),
        (
            "keys taken for values",
            replace("%kec1_v5 = vector.load %buf[%slot_i, %i1,", "%kec1_v5 = vector.load %buf[%slot_i, %i0,"),
        ),
        (
            "values of the next tile",
            replace("%sec0_v5 = vector.load %buf[%slot_i,", "%sec0_v5 = vector.load %buf[%next_i,"),
        ),
        (
            "keys of this tile again",
            replace("%kea0_k05 = vector.load %buf[%next_i,", "%kea0_k05 = vector.load %buf[%slot_i,"),
        ),
        (
            "keys of another query tile's first tile",
            replace("%first_s = arith.andi %first, %ring", "%first_s = arith.andi %c0, %ring"),
        ),
        (
            "values behind a tile's keys not replaced",
            replace(
                "%x_v0_c = arith.select %x_keep, %x_v0_, %x_none",
                "%x_v0_c = arith.select %x_keep, %x_v0_, %x_v0_",
            ),
        ),
        (
            "keys behind a tile's keys not replaced",
            replace(
                "%x_k0_c = arith.select %x_keep, %x_k0_, %x_k0_r",
                "%x_k0_c = arith.select %x_keep, %x_k0_, %x_k0_",
            ),
        ),
        (
            "scores of missing keys not hidden",
            replace(
                "%cs0_s = arith.select %c_keep, %cs0, %c_hidden",
                "%cs0_s = arith.select %c_keep, %cs0, %cs0",
            ),
        ),
        (
            "slot tiles have no mask",
            replace("%ssa0_s = arith.addf %ssa0_sc, %ssa0_b", "%ssa0_s = arith.addf %ssa0_sc, %ss_s0"),
        ),
        (
            "rows see an edge tile to its end",
            replace("%ke_span = arith.subi %ke_hi, %ke_lo", "%ke_span = arith.subi %ke_n_v, %ke_lo"),
        ),
        (
            "scores not scaled",
            replace("%kfa0_sc = arith.mulf %kfa0_qk, %kf_factor", "%kfa0_sc = arith.addf %kfa0_qk, %kf_s0"),
        ),
        ("base e for base 2", replace("%ssb1_p = math.exp2 %ssb1_d", "%ssb1_p = math.exp %ssb1_d")),
        ("pages not awaited", drop_line("src(%x_psrc")),
        (
            "first tile of all not awaited",
            replace("%z_some = arith.cmpi slt, %c0, %total", "%z_some = arith.cmpi slt, %total, %c0"),
        ),
        (
            "a copy over the tile that is computed",
            replace("%b_slot = arith.andi %bi, %ring", "%b_slot = arith.andi %i, %ring"),
        ),
        (
            "copies start anew with every query tile",
            replace("%is_first = arith.cmpi eq, %t, %c0", "%is_first = arith.cmpi sge, %t, %c0"),
        ),
        (
            "the next query tile's first tile not awaited",
            replace("%another = arith.cmpi slt, %ni, %total", "%another = arith.cmpi slt, %ni, %end"),
        ),
        (
            "a copy behind the last tile",
            replace("%ahead = arith.cmpi slt, %bi, %total", "%ahead = arith.cmpi sle, %bi, %total"),
        ),
        (
            "copies do not run ahead across query tiles",
            replace("%ahead = arith.cmpi slt, %bi, %total", "%ahead = arith.cmpi slt, %bi, %end"),
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
            replace("%b_list = arith.addi %pages_at, %b_start", "%b_list = arith.addi %pages_at, %c0"),
        ),
        (
            "all pages in one place",
            replace("%b_row = arith.muli %b_j, %b_ps", "%b_row = arith.muli %c0, %b_ps"),
        ),
    ]
}

/// Faults of queries in two bf16 terms, see [`texts`].
fn terms() -> Vec<(&'static str, Edit)> {
    vec![
        (
            "high term of the queries twice",
            replace("%sbq0_l3 = vector.shape_cast %sbq0_l ", "%sbq0_l3 = vector.shape_cast %sbq0_h "),
        ),
        (
            "high term of the queries missing",
            replace("%sbq0_h3 = vector.shape_cast %sbq0_h ", "%sbq0_h3 = vector.shape_cast %sbq0_l "),
        ),
        (
            "queries of another head",
            replace("%sfa1_q3 = vector.load %qs[%h1,", "%sfa1_q3 = vector.load %qs[%h0,"),
        ),
        (
            "edge tiles have no mask",
            replace("tpu.matmul %kea0_kk, %kea0_q, %kea0_b ", "tpu.matmul %kea0_kk, %kea0_q, %ke_s0 "),
        ),
        (
            "padding keys of bf16 kept",
            replace(
                "%x_k1_c = arith.select %x_keep, %x_k1_, %x_k1_r",
                "%x_k1_c = arith.select %x_keep, %x_k1_, %x_k1_",
            ),
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
            Box::new(move |w| {
                w[case.tile(2, |t| edge(t) && t[layout::TILE_WHOLE_HI] > 0) + layout::TILE_WHOLE_HI] -= 1
            }),
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
