use ndarray::Array2;
use tpu_rpa::emulator::Operands;
use tpu_rpa::kernels::LabelOutput;
use tpu_rpa::spec::LabelSet;

use crate::mosaic::LabelCase;
use crate::seeding::{Killed, Mutant, diagnosis, emulator, orders, replace, seed};

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
    [logprobs(), shared(), per_row()].into_iter().flatten().collect()
}

/// Two blocks of the vocabulary, the second 276 tokens; two blocks of rows.
fn logprobs() -> Vec<Mutant> {
    let case = LabelCase::<f32>::new(600, 64, 1300, LabelSet::PerRow(3), 4.0, 1);
    let (text, operands, _) = case.logprobs(0..1300, LabelOutput::Logprobs);
    let edits = vec![
        (
            "a token behind the vocabulary",
            replace("%t_live = arith.constant dense<276>", "%t_live = arith.constant dense<277>"),
        ),
        (
            "the last token is missing",
            replace("%t_live = arith.constant dense<276>", "%t_live = arith.constant dense<275>"),
        ),
        ("running sum not rescaled", replace("%t_ln = arith.addf %t_la,", "%t_ln = arith.addf %t_lo,")),
        (
            "stale running maximum",
            replace("%t_mb = vector.broadcast %t_mn", "%t_mb = vector.broadcast %t_mo"),
        ),
        (
            "labels sought in the first block alone",
            replace("%at = arith.subi %own, %start_b", "%at = arith.subi %own, %own"),
        ),
        (
            "a label found before is forgotten",
            replace("%t0_new = arith.addf %t0_old,", "%t0_new = arith.mulf %t0_old,"),
        ),
        (
            "another label is picked",
            replace(
                "%t1_at = vector.extract_strided_slice %at offsets = [1, 0]",
                "%t1_at = vector.extract_strided_slice %at offsets = [2, 0]",
            ),
        ),
        (
            "the maximum taken off twice, the sum never",
            replace("%logprobs = arith.subf %above, %logb", "%logprobs = arith.subf %above, %mfb"),
        ),
        ("the vocabulary stands still", replace("return %b, %z : i32, i32", "return %z, %z : i32, i32")),
        ("the first rows for all", replace("return %r, %z : i32, i32", "return %z, %z : i32, i32")),
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
