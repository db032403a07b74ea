//! Faults seeded one at a time into kernel texts, planner's words and the functions around the texts: each must be found
//! by a check that passes without it. `kernels/MUTANTS.md` lists them; `UPDATE_MUTANTS=1` writes it anew.
#![cfg(all(feature = "emulator", feature = "runtime"))]

mod attention;
mod kv_write;
mod labels;
mod seeding;
mod wrapper;

use std::fmt::Write as _;
use std::path::Path;

use seeding::Mutant;

/// The committed table.
const TABLE: &str = "kernels/MUTANTS.md";

#[test]
fn every_mutant_is_killed_as_the_table_says() {
    let mutants: Vec<Mutant> = std::thread::scope(|scope| {
        let parts = [attention::mutants, kv_write::mutants, labels::mutants, wrapper::mutants];
        let handles = parts.map(|part| scope.spawn(part));
        handles.into_iter().flat_map(|h| h.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    });
    let survivors: Vec<String> = mutants
        .iter()
        .filter(|m| m.killed_by.is_none())
        .map(|m| format!("{} {}: {} ({})", m.kernel, m.part, m.fault, m.edit))
        .collect();
    assert!(survivors.is_empty(), "these survive:\n{}", survivors.join("\n"));
    for part in ["text", "planner", "wrapper"] {
        assert!(mutants.iter().any(|m| m.part == part), "no mutant of the {part}");
    }
    assert!(mutants.len() >= 20, "{} mutants", mutants.len());

    let table = table(&mutants);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    if std::env::var_os("UPDATE_MUTANTS").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    for (found, listed) in table.lines().zip(committed.lines()) {
        assert_eq!(found, listed, "{TABLE} is out of date: UPDATE_MUTANTS=1 writes it anew");
    }
    assert_eq!(table, committed, "{TABLE} is out of date: UPDATE_MUTANTS=1 writes it anew");
}

fn table(mutants: &[Mutant]) -> String {
    let mut table = format!(
        "# Mutants\n\n\
         {} faults, each seeded alone and killed; `tests/mutants` made this table and compares it with what it finds.\n\
         A text mutant is an edit of the rendered Mosaic text, a planner mutant one of the words that the planner hands \
         to the kernel, a wrapper mutant one of the StableHLO function around the text. The check is the first that fails: \
         a diagnosis of the emulator, or a comparison of the result.\n\n\
         | kernel | part | fault | edit | killed by |\n| --- | --- | --- | --- | --- |\n",
        mutants.len()
    );
    for m in mutants {
        let killed_by = m.killed_by.as_deref().unwrap_or("survives");
        writeln!(table, "| {} | {} | {} | {} | {killed_by} |", m.kernel, m.part, m.fault, m.edit).unwrap();
    }
    table
}
