//! What the compiler's own listings say about a Mosaic call.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// Flags under which libtpu writes them. The filter leaves out the many listings of single passes, which would take
/// longer than compiling.
pub fn flags(folder: &str) -> String {
    format!(
        "--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true \
         --xla_jf_dump_llo_pass_label_regex=pre-delay|vmem_report"
    )
}

/// Figures of the Mosaic call's code.
pub struct Listing {
    /// Instruction slots (VLIW bundles) of the code, empty ones included.
    pub slots: u64,
    /// Vector registers stored to VMEM for want of room.
    pub spill_stores: u64,
    /// And loaded back.
    pub spill_loads: u64,
    /// VMEM that the compiler gave it, in bytes.
    pub vmem: u64,
}

/// Reads the listings of a program with one Mosaic call.
pub fn read(folder: &Path) -> Result<Listing> {
    let names: Vec<String> =
        std::fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let text = |part: &str| {
        let name = names.iter().find(|name| name.contains(part));
        let name = name.with_context(|| format!("the compiler wrote no listing *{part}*"))?;
        std::fs::read_to_string(folder.join(name)).with_context(|| format!("the listing {name}"))
    };
    let program = text("-TLP-hlo.txt")?;
    let call = program.lines().find(|line| line.contains("custom_call_target=\"tpu_custom_call\""));
    let call =
        call.and_then(|line| line.trim().trim_start_matches("ROOT ").strip_prefix('%')?.split(' ').next());
    let call = call.context("the program has no Mosaic call")?;
    let mut listing = units(&text(&format!("-{call}-00-pre-delay_hlo-static-per-bundle-utilization.txt"))?)?;
    listing.vmem = vmem(&text("vmem_report.html")?, call)?;
    Ok(listing)
}

/// Sums the columns of a listing of the units' use: a header with the units' names, then a line a slot.
fn units(text: &str) -> Result<Listing> {
    let header =
        text.lines().find(|line| line.contains("VSTORE:SPILL")).context("the listing names no units")?;
    let column = |unit: &str| {
        header.split(',').position(|name| name.trim() == unit).with_context(|| format!("no unit {unit}"))
    };
    let (stores, loads) = (column("VSTORE:SPILL")?, column("VLOAD:FILL")?);
    let mut listing = Listing { slots: 0, spill_stores: 0, spill_loads: 0, vmem: 0 };
    for line in text.lines().skip_while(|line| !line.contains("UTILIZATION")).skip(1) {
        let numbers: Option<Vec<u64>> = line.split_whitespace().map(|n| n.parse().ok()).collect();
        if let Some(numbers) = numbers.filter(|n| n.len() > stores.max(loads)) {
            listing.slots += 1;
            listing.spill_stores += numbers[stores];
            listing.spill_loads += numbers[loads];
        }
    }
    Ok(listing)
}

/// VMEM of an instruction, from the JSON in the report's page. One whose operands all lie in VMEM already has none of its
/// own, and is not listed.
fn vmem(page: &str, call: &str) -> Result<u64> {
    let (_, data) = page.split_once("const DATA =").context("the VMEM report has no data")?;
    let data = serde_json::Deserializer::from_str(data).into_iter::<Value>().next();
    let data = data.context("the VMEM report has no data")??;
    let listed = data["hlo_breakdowns"].as_object().context("the VMEM report lists no instructions")?;
    match listed.get(call) {
        None => Ok(0),
        Some(used) => used["total_size"].as_u64().context("the VMEM report has no total_size"),
    }
}
