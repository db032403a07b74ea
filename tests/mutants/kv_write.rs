use half::bf16;
use tpu_rpa::emulator::RunOptions;
use tpu_rpa::spec::{DType, KvWriteSpec};

use crate::seeding::{
    Killed, Mutant, WordEdit, diagnosis, drop_line, emulator, orders, replace, seed, seed_words,
};
use common::Random;
use common::mosaic::KvWriteCase;

const KERNEL: &str = "kv_write";

/// Whole chunks, parts of chunks and single tokens, more chunks than are under way at a time.
pub fn case() -> KvWriteCase<bf16> {
    let spec = KvWriteSpec::new(2, 64, 16, DType::Bf16).unwrap();
    let mut slots: Vec<i32> = (8..24).chain([3, 40, 41, 70, -1, 63, 64]).chain(90..96).collect();
    slots.reverse();
    KvWriteCase::new(spec, 7, &slots, &mut Random::new(4))
}

fn check(case: &KvWriteCase<bf16>, text: &str, table: &[i32]) -> Killed {
    let kernel = emulator(text)?;
    for options in orders() {
        let outcome =
            kernel.run_with(&case.operands_with(table.to_vec()), &options).map_err(|e| diagnosis(&e))?;
        if !case.is_expected(&outcome.outputs[0]) {
            return Err("bits of the pages".to_owned());
        }
    }
    Ok(())
}

/// A first page from which a slot lies outside the pool: no byte changes.
fn writes_nothing_outside(text: &str) -> Killed {
    let mut case = case();
    case.expected.assign(&case.pages);
    let last = case.slots.slots().iter().max().copied().unwrap_or(-1) / case.spec.page_size() as i32;
    for first_page in [-1, case.pool_pages() as i32 - last, i32::MIN, i32::MAX] {
        case.first_page = first_page;
        let outcome =
            emulator(text)?.run_with(&case.operands(), &RunOptions::default()).map_err(|e| diagnosis(&e))?;
        if !case.is_expected(&outcome.outputs[0]) {
            return Err("bits of the pages".to_owned());
        }
    }
    Ok(())
}

/// Slots for another page size, and the slots of portable kernels: no byte changes.
fn writes_no_others(text: &str) -> Killed {
    let mut case = case();
    case.expected.assign(&case.pages);
    let mut table = case.chunk_table();
    let own = table[0];
    for identity in [0, own ^ 1, case.slots.words(&case.plan).unwrap()[0]] {
        table[0] = identity;
        let operands = case.operands_with(table.clone());
        let outcome =
            emulator(text)?.run_with(&operands, &RunOptions::default()).map_err(|e| diagnosis(&e))?;
        if !case.is_expected(&outcome.outputs[0]) {
            return Err("bits of the pages".to_owned());
        }
    }
    Ok(())
}

pub fn mutants() -> Vec<Mutant> {
    let case = case();
    let (text, table) = (case.text(), case.chunk_table());
    let chunks = table[1] as usize;
    // The third chunk is written in part.
    let word = |chunk: usize, field: usize| 2 + 3 * chunk + field;
    let partial = (0..chunks).find(|&c| table[word(c, 1)] != 255).unwrap();
    let entries = 2 + 3 * (case.rows() + 1);
    let edits = vec![
        ("old bits lost", replace("%o0_k = arith.andi %o0, %keep", "%o0_k = arith.andi %o0, %take")),
        (
            "old bits mixed into new ones",
            replace("%m3 = arith.ori %n3_t, %o3_k", "%m3 = arith.ori %n3_t, %o3"),
        ),
        (
            "odd tokens' half of a word for even ones",
            replace("%low_all = arith.constant dense<65535>", "%low_all = arith.constant dense<-65536>"),
        ),
        (
            "odd tokens by the mask of others",
            replace("%high_at = arith.addi %low_at, %ones", "%high_at = arith.addi %low_at, %low_at"),
        ),
        (
            "values of another head",
            replace(
                "%merged[%slot_i, %i1, %i1, %i0, %i0], %m3_5",
                "%merged[%slot_i, %i1, %i1, %i0, %i0], %m2_5",
            ),
        ),
        ("old content not awaited", drop_line("src(%w_hbm")),
        ("new rows not awaited", drop_line("src(%w_rh")),
        ("a buffer reused one chunk early", replace("%used = arith.cmpi sge,", "%used = arith.cmpi sgt,")),
        ("last copies not awaited", replace("scf.for %z_at = %undone to", "scf.for %z_at = %chunks to")),
        (
            "rows of all chunks in one buffer",
            replace("%b_base = arith.muli %b_slot,", "%b_base = arith.muli %c0,"),
        ),
        (
            "the layer's first page is forgotten",
            replace("%x_page = arith.addi %x_nth_page, %first_page", "%x_page = arith.addi %x_nth_page, %c0"),
        ),
        (
            "chunk written to the page's first place",
            replace("%x_nth = arith.remsi %x_chunk,", "%x_nth = arith.muli %c0,"),
        ),
    ];
    let outside = vec![
        (
            "chunks behind the pool are written",
            replace(
                "%chunks = arith.select %in_pool, %listed, %c0",
                "%chunks = arith.select %in_pool, %listed, %listed",
            ),
        ),
        (
            "a first page below the pool",
            replace(
                "%in_pool = arith.andi %not_below, %not_above",
                "%in_pool = arith.andi %not_above, %not_above",
            ),
        ),
        (
            "the first chunk taken for the last",
            replace("%l_at = arith.maxsi %l_from, %l_first", "%l_at = arith.minsi %l_from, %l_first"),
        ),
    ];
    let words: Vec<WordEdit<'_>> = vec![
        (
            "a token of a chunk is not written",
            "mask bit cleared",
            Box::new(|w| w[word(partial, 1)] &= w[word(partial, 1)] - 1),
        ),
        (
            "a token too many is written",
            "mask bit set",
            Box::new(|w| w[word(partial, 1)] |= !w[word(partial, 1)] & (w[word(partial, 1)] + 1)),
        ),
        ("rows go to the neighbouring chunk", "chunk + 1", Box::new(|w| w[word(partial, 0)] += 1)),
        ("a chunk is named twice", "chunk of the next", Box::new(|w| w[word(1, 0)] = w[word(2, 0)])),
        ("another row is written", "entry + 8", Box::new(|w| w[entries] += 8)),
        ("a row in its neighbour's place", "entry xor 1", Box::new(|w| w[entries + 1] ^= 1)),
        ("the last chunk is forgotten", "chunks - 1", Box::new(|w| w[1] -= 1)),
    ];
    let others = vec![(
        "another kernel's slots are written",
        replace(
            "%listed = arith.select %is_ours, %named, %c0",
            "%listed = arith.select %is_ours, %named, %named",
        ),
    )];
    let mut mutants = seed(KERNEL, "text", &text, edits, |text| check(&case, text, &table));
    mutants.extend(seed(KERNEL, "text", &text, outside, writes_nothing_outside));
    mutants.extend(seed(KERNEL, "text", &text, others, writes_no_others));
    mutants.extend(seed_words(KERNEL, &table, words, |table| check(&case, &text, table)));
    mutants
}
