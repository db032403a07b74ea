use ndarray::Array2;
use tpu_rpa::emulator::Operands;
use tpu_rpa::kernels::LabelOutput;
use tpu_rpa::spec::LabelSet;

use crate::seeding::{Killed, Mutant, diagnosis, drop_line, emulator, orders, replace, seed};
use common::mosaic::LabelCase;

fn check(
    case: &LabelCase<f32>,
    text: &str,
    operands: &Operands,
    peak: f64,
    errors: impl Fn(&Array2<f32>) -> (f64, f64),
) -> Killed {
    let kernel = emulator(text)?;
    for options in orders() {
        let outcome = kernel.run_with(operands, &options).map_err(|e| diagnosis(&e))?;
        let (error, plain) = errors(&case.turned(&outcome.outputs[0], LabelOutput::Logprobs));
        if error > 2.0 * plain + 1e-6 * peak {
            return Err("f64 reference".to_owned());
        }
    }
    Ok(())
}

pub fn mutants() -> Vec<Mutant> {
    [logprobs(), common(), shared(), per_row()].into_iter().flatten().collect()
}

/// Seven blocks of the vocabulary, the last 276 tokens; two blocks of rows.
fn logprobs() -> Vec<Mutant> {
    let vocab = 6 * 2048 + 276;
    let case = LabelCase::<f32>::new(600, 64, vocab, LabelSet::PerRow(3), 4.0, 1);
    let (text, operands, _) = case.logprobs(0..vocab, LabelOutput::Logprobs);
    let edits = vec![
        (
            "a token behind the vocabulary",
            replace("%t_live = arith.constant dense<276>", "%t_live = arith.constant dense<277>"),
        ),
        (
            "the last token is missing",
            replace("%t_live = arith.constant dense<276>", "%t_live = arith.constant dense<275>"),
        ),
        (
            "logits behind the last block count",
            replace("%nothing = arith.constant dense<0xFF800000>", "%nothing = arith.constant dense<0.0>"),
        ),
        ("running sum not rescaled", replace("%b0_l = arith.addf %b_la,", "%b0_l = arith.addf %b_lo,")),
        (
            "the last running sum not rescaled",
            replace("%e0_l = arith.addf %e_la,", "%e0_l = arith.addf %e_lo,"),
        ),
        (
            "stale running maximum",
            replace("tpu.vector_store %m[%i0, %i0], %b1_mn", "tpu.vector_store %m[%i0, %i0], %b_m"),
        ),
        (
            "half a block does not rescale",
            replace("%b_md = arith.subf %b_m, %b1_mn", "%b_md = arith.subf %b_m, %b0_mn"),
        ),
        ("logits of a block not kept", drop_line("tpu.vector_store %s[%b1_row, %i0], %b1_wh")),
        (
            "labels sought in the block to come",
            replace(
                "%before = arith.select %second, %ending, %back",
                "%before = arith.select %second, %block, %block",
            ),
        ),
        (
            "labels of the last block sought elsewhere",
            replace(
                "%before = arith.select %second, %ending, %back",
                "%before = arith.select %second, %back, %back",
            ),
        ),
        (
            "the last labels sought a block late",
            replace("%before_last = arith.constant 5", "%before_last = arith.constant 6"),
        ),
        ("the second half's sum alone", replace("%b1_l = arith.addf %b0_l,", "%b1_l = arith.addf %b_la,")),
        (
            "labels of the second half sought in the first",
            replace("%b1_at = arith.subi %b_at, %b1_half", "%b1_at = arith.subi %b_at, %b0_half"),
        ),
        (
            "the first half of the LM head's block twice",
            replace(
                "%b1_w3 = vector.load %buf[%b_slot, %b1_row",
                "%b1_w3 = vector.load %buf[%b_slot, %b0_row",
            ),
        ),
        (
            "labels sought in the first block alone",
            replace("%b_at = arith.subi %b_own, %b_start_b", "%b_at = arith.subi %b_own, %b_own"),
        ),
        (
            "a label found before is forgotten",
            replace("%b0_0_new = arith.addf %b0_0_old,", "%b0_0_new = arith.mulf %b0_0_old,"),
        ),
        (
            "another label is picked",
            replace(
                "%b0_1_at = vector.extract_strided_slice %b0_at offsets = [1, 0]",
                "%b0_1_at = vector.extract_strided_slice %b0_at offsets = [2, 0]",
            ),
        ),
        (
            "the maximum taken off twice, the sum never",
            replace("%logprobs = arith.subf %above, %logb", "%logprobs = arith.subf %above, %mfb"),
        ),
        ("the first rows for all", replace("return %r, %z : i32, i32", "return %z, %z : i32, i32")),
        ("the last block is the first", replace("return %last, %z : i32, i32", "return %z, %z : i32, i32")),
        (
            "a buffer is filled while it is read",
            replace("%ahead = arith.constant 3", "%ahead = arith.constant 4"),
        ),
        (
            "copies are not numbered through",
            replace("%copy = arith.addi %of_row_block, %block", "%copy = arith.addi %block, %c0"),
        ),
        ("one copy too many", replace("%all = arith.constant 12", "%all = arith.constant 13")),
        ("one copy too few", replace("%all = arith.constant 12", "%all = arith.constant 11")),
        (
            "a block copied twice",
            replace("%next_block = arith.remsi %next, %each", "%next_block = arith.remsi %copy, %each"),
        ),
        ("a copy not awaited", drop_line("tpu.wait_dma2 semaphore(%a_sem")),
    ];
    seed("label_logprobs", "text", &text, edits, |text| {
        check(&case, text, &operands, 4.0, |found| case.logprob_errors(found))
    })
}

/// Labels of all rows, three blocks of the vocabulary; they are first and last tokens of blocks, and others.
fn common() -> Vec<Mutant> {
    let vocab = 2 * 2048 + 276;
    let mut case = LabelCase::<f32>::new(20, 64, vocab, LabelSet::Shared(8), 4.0, 4);
    let ids = [0, 4371, 2047, 2048, 4095, 4096, 700, 3000];
    case.ids.rows_mut().into_iter().for_each(|mut row| row.iter_mut().zip(ids).for_each(|(at, id)| *at = id));
    let (text, operands, _) = case.logprobs(0..vocab, LabelOutput::Logprobs);
    let edits = vec![
        (
            "labels of the last block not sought",
            replace("%tp_count = arith.constant 276", "%tp_count = arith.constant 0"),
        ),
        (
            "the last token is no label",
            replace("%tp_count = arith.constant 276", "%tp_count = arith.constant 275"),
        ),
        (
            "the last token of a block is no label",
            replace("%fp_count = arith.constant 2048", "%fp_count = arith.constant 2047"),
        ),
        (
            "a token of the next block",
            replace("%fp_count = arith.constant 2048", "%fp_count = arith.constant 2049"),
        ),
        (
            "labels sought in the first block alone",
            replace("%fp_start = arith.muli %block,", "%fp_start = arith.muli %c0,"),
        ),
        ("negative ids are labels", replace("%fp0_in = arith.cmpi ult,", "%fp0_in = arith.cmpi slt,")),
        (
            "one label for another",
            replace("%fp1_id = memref.load %ids[%k1]", "%fp1_id = memref.load %ids[%k2]"),
        ),
        (
            "the first label alone counts",
            replace("%fp_any8 = arith.ori %fp_any7, %fp7_in", "%fp_any8 = arith.ori %fp0_in, %fp0_in"),
        ),
    ];
    seed("label_logprobs", "text", &text, edits, |text| {
        check(&case, text, &operands, 4.0, |found| case.logprob_errors(found))
    })
}

/// Two blocks of labels.
fn shared() -> Vec<Mutant> {
    let case = LabelCase::<f32>::new(20, 64, 1000, LabelSet::Shared(130), 2.0, 2);
    let (text, operands, _) = case.softmax();
    let edits = vec![
        (
            "a padding label counts",
            replace("%labels = arith.constant dense<130>", "%labels = arith.constant dense<131>"),
        ),
        (
            "the last label does not count",
            replace("%labels = arith.constant dense<130>", "%labels = arith.constant dense<129>"),
        ),
        (
            "not normalised",
            replace("%probabilities = arith.divf %p, %lb", "%probabilities = arith.mulf %p, %lb"),
        ),
        (
            "one block of labels over the other",
            replace("%first = arith.muli %b, %label_block", "%first = arith.subi %label_block, %label_block"),
        ),
    ];
    let mut mutants = seed("label_softmax", "text", &text, edits, |text| {
        check(&case, text, &operands, 2.0, |found| case.softmax_errors(found))
    });
    // Any maximum cancels where nothing overflows.
    let case = LabelCase::<f32>::new(20, 64, 1000, LabelSet::Shared(9), 40.0, 2);
    let (text, operands, _) = case.softmax();
    let edits = vec![("the maximum is added", replace("%d = arith.subf %s, %mb", "%d = arith.addf %s, %mb"))];
    mutants.extend(seed("label_softmax", "text", &text, edits, |text| {
        check(&case, text, &operands, 40.0, |found| case.softmax_errors(found))
    }));
    mutants
}

/// Rows with labels of their own, two blocks of them.
fn per_row() -> Vec<Mutant> {
    let case = LabelCase::<f32>::new(150, 64, 1000, LabelSet::PerRow(3), 2.0, 3);
    let (text, operands, _) = case.softmax();
    let edits = vec![
        (
            "labels of other rows",
            replace("%own = arith.cmpi eq, %of, %by", "%own = arith.cmpi sle, %of, %by"),
        ),
        ("the first rows' labels for all", replace("return %b, %r, %z", "return %b, %z, %z")),
        ("one label for all", replace("return %b, %r, %z", "return %z, %r, %z")),
        (
            "result of the first step not kept",
            replace("%starts = arith.cmpi eq,", "%starts = arith.cmpi sge,"),
        ),
    ];
    seed("label_softmax", "text", &text, edits, |text| {
        check(&case, text, &operands, 2.0, |found| case.softmax_errors(found))
    })
}
