//! Block sizes: those of the manifests, and the tuned ones of `kernels/tables/<device>.toml`.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::kernels::tiles::{Blocks, Tiles, TunedEntry};
use crate::kernels::{TpuKind, WorkloadClass};
use crate::manifest::{blocks, dtype};
use crate::problem::{Result, fail};

// They stand for what the library includes, so that kernels rendered here have the same sizes.
pub(crate) static BLOCKS: LazyLock<Blocks> = LazyLock::new(|| blocks().unwrap_or_else(fail));
pub(crate) static TUNED: LazyLock<Vec<TunedEntry>> = LazyLock::new(|| entries().unwrap_or_else(fail));

/// Both as Rust.
pub(crate) fn text() -> String {
    // What Debug prints of it is Rust.
    let tiles = |t: Tiles| format!("{t:?}");
    let Blocks { attention, attention_tpu, vocab_block } = *BLOCKS;
    format!(
        "pub(super) static BLOCKS: Blocks = Blocks {{ attention: {}, attention_tpu: {}, vocab_block: {vocab_block} }};\n\n\
         pub(super) static TUNED: &[TunedEntry] = &{};\n",
        tiles(attention),
        tiles(attention_tpu),
        literal(),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    device: String,
    entry: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    class: WorkloadClass,
    q_heads: usize,
    kv_heads: usize,
    head_dim: usize,
    dtype: String,
    page_size: usize,
    tiles: Tiles,
    #[serde(default)]
    scaled_scores: bool,
    /// What the choice rests on is for readers and `make tune`.
    #[serde(rename = "workload")]
    _workload: String,
    #[serde(rename = "candidate")]
    _candidate: toml::Value,
}

/// The entries of every table.
fn entries() -> Result<Vec<TunedEntry>> {
    let mut entries = Vec::new();
    for device in TpuKind::ALL {
        let path = format!("kernels/tables/{device}.toml");
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        let table: Table = toml::from_str(&text).map_err(|e| format!("{path}: {e}"))?;
        if table.device != device.to_string() {
            return Err(format!(
                "{path}: device is {:?}; it must be {device}, as the file says",
                table.device
            ));
        }
        for e in table.entry {
            if e.kv_heads == 0 || e.q_heads == 0 || !e.q_heads.is_multiple_of(e.kv_heads) {
                let (q, kv) = (e.q_heads, e.kv_heads);
                return Err(format!("{path}: q_heads is {q}; it must be a multiple of kv_heads, {kv}"));
            }
            entries.push(TunedEntry {
                device,
                class: e.class,
                q_heads: e.q_heads,
                kv_heads: e.kv_heads,
                head_dim: e.head_dim,
                dtype: dtype(&path, &e.dtype)?,
                page_size: e.page_size,
                tiles: e.tiles,
                scaled_scores: e.scaled_scores,
            });
        }
    }
    Ok(entries)
}

/// The entries as Rust.
fn literal() -> String {
    let mut list = String::new();
    for e in TUNED.iter() {
        let TunedEntry { q_heads, kv_heads, head_dim, page_size, scaled_scores, .. } = e;
        let tiles: Tiles = e.tiles;
        list += &format!(
            "    TunedEntry {{ device: TpuKind::{:?}, class: WorkloadClass::{:?}, q_heads: {q_heads}, \
             kv_heads: {kv_heads}, head_dim: {head_dim}, dtype: DType::{:?}, page_size: {page_size}, \
             tiles: {tiles:?}, \
             scaled_scores: {scaled_scores} }},\n",
            e.device, e.class, e.dtype
        );
    }
    format!("[\n{list}]")
}
