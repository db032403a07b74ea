use comfy_table::{CellAlignment, Table, presets};

use super::child::Described;
use super::manifest::Compiled;

/// Executables with the VMEM that their texts declare.
pub fn of(rows: &[(usize, Compiled)], topologies: &[Described]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "variant",
        "topology",
        "compile s",
        "code slots",
        "executable KiB",
        "VMEM declared KiB",
        "VMEM KiB",
        "spill stores/loads",
    ]);
    for (declared, c) in rows {
        table.add_row([
            c.variant.clone(),
            c.topology.clone(),
            format!("{:.1}", c.seconds),
            c.slots.to_string(),
            (c.bytes / 1024).to_string(),
            (declared / 1024).to_string(),
            (c.vmem / 1024).to_string(),
            format!("{}/{}", c.spill_stores, c.spill_loads),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let versions: std::collections::BTreeSet<&str> =
        topologies.iter().map(|t| t.compiler.lines().next().unwrap_or_default()).collect();
    let versions: Vec<&str> = versions.into_iter().collect();
    format!("{table}\n{}", versions.join("\n"))
}
