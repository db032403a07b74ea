//! Block sizes by search: candidates that a static model leaves are compiled and replayed, the fastest is chosen.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use tpu_rpa::batch::{Plan, TileSource};
use tpu_rpa::kernels::attention_vmem;
use tpu_rpa::schedule::{Compiler, DeviceKind};
use workloads::{Attention, Source, Workload};

use crate::args::{Build, Heads, Tiles, Tune};
use crate::workload::{Case, plan};

/// Latency of copies that the tables assume, in nanoseconds.
const LATENCY: f64 = 1000.0;

/// Page size that tiles are searched at; the other is measured with the tiles chosen for scoring.
const PAGE_SIZE: usize = 128;
const OTHER_PAGE_SIZE: usize = 256;

/// Candidates that are compiled, at most: the best of the static model.
const MOST: usize = 3;

/// Candidates that the static model finds this much slower than its best are not compiled.
const PRUNED: f64 = 1.6;

/// Of candidates within this share of the fastest, the one that needs the least VMEM is chosen.
const ALIKE: f64 = 1.005;

const HEAD: &str = "\
# Block sizes of attention by replayed schedule, one layer: not hardware. `make tune` writes this file.
# An entry's tiles are those of the candidate with the fewest cycles; of several within 0.5 %, the one of least VMEM.
# Cycles are at one issue slot each, waits for copies included (published bandwidth, 1 us latency); bf16.
# Candidates: what a static model of matrix work, copies and a fixed cost a tile leaves of all tile sizes; for scoring
# also the other way to scale and another page size, with the tiles chosen.
";

/// What is tuned for: heads, and the classes with the workload that stands for each.
const CLASSES: [(&str, &str); 4] = [("packed", "W1"), ("prefill", "W3"), ("decode", "W4"), ("mixed", "W5")];
const ALL_CLASSES: Heads = Heads { q: 16, kv: 8, dim: 128 };
/// Tuned for scoring on v6e only; the nearest entry serves the rest.
const SCORING: [Heads; 3] =
    [Heads { q: 32, kv: 8, dim: 128 }, Heads { q: 9, kv: 3, dim: 64 }, Heads { q: 4, kv: 1, dim: 256 }];

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Table {
    device: String,
    entry: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Entry {
    class: String,
    workload: String,
    q_heads: usize,
    kv_heads: usize,
    head_dim: usize,
    dtype: String,
    page_size: usize,
    scaled_scores: bool,
    tiles: Chosen,
    candidate: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Chosen {
    q_tile: usize,
    kv_tile: usize,
    own_tile: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    row_block: Option<usize>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Candidate {
    tiles: String,
    page_size: usize,
    scaled_scores: bool,
    /// Missing where the compiler refused it: it needs more VMEM than there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cycles: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vmem: Option<u64>,
}

impl From<Chosen> for Tiles {
    fn from(tiles: Chosen) -> Self {
        Tiles { q: tiles.q_tile, kv: tiles.kv_tile, own: tiles.own_tile, block: tiles.row_block }
    }
}

pub(crate) fn run(args: &Tune) -> anyhow::Result<()> {
    for &device in &args.device {
        let path = args.tables.join(format!("{device}.toml"));
        let at = || path.display().to_string();
        if args.check {
            let text = std::fs::read_to_string(&path).with_context(at)?;
            let table: Table = toml::from_str(&text).with_context(at)?;
            check(device, &table).with_context(at)?;
            println!("{}: {} entries are what the rules choose", path.display(), table.entry.len());
            continue;
        }
        let compiler = crate::compare::compiler(&args.source)?;
        let mut table = Table { device: device.to_string(), entry: Vec::new() };
        for (class, workload, heads) in cases(device) {
            let entry = tune(&compiler, &args.source.cache, device, class, workload, heads)
                .with_context(|| format!("{class} {}/{}x{}", heads.q, heads.kv, heads.dim))?;
            let tiles = Tiles::from(entry.tiles);
            println!("{device} {class} {}/{}x{}: {tiles}", heads.q, heads.kv, heads.dim);
            table.entry.push(entry);
        }
        std::fs::write(&path, format!("{HEAD}\n{}", toml::to_string(&table)?)).with_context(at)?;
    }
    Ok(())
}

fn cases(device: DeviceKind) -> impl Iterator<Item = (&'static str, &'static str, Heads)> {
    let (scoring, workload) = CLASSES[0];
    let more = if device == DeviceKind::V6e { &SCORING[..] } else { &[] };
    let all = CLASSES.into_iter().map(|(class, workload)| (class, workload, ALL_CLASSES));
    all.chain(more.iter().map(move |&heads| (scoring, workload, heads)))
}

/// A workload and what its kernel is built for, as a candidate has it.
fn shape(
    device: DeviceKind,
    workload: &str,
    heads: Heads,
    candidate: &Candidate,
) -> anyhow::Result<(Attention, Build)> {
    let Workload::Attention(mut attention) = Source::open(workload)?.workload else {
        bail!("{workload} is no attention")
    };
    heads.set(&mut attention);
    attention.page_size = candidate.page_size;
    let build = Build {
        device,
        tiles: Some(candidate.tiles.parse().map_err(|e: String| anyhow::anyhow!(e))?),
        scaled_scores: Some(candidate.scaled_scores),
    };
    Ok((attention, build))
}

/// The tile sizes that are worth compiling, by [`modelled`]; none that VMEM cannot hold.
fn candidates(device: DeviceKind, workload: &str, heads: Heads) -> anyhow::Result<Vec<Candidate>> {
    let group = heads.q / heads.kv;
    // Row blocks are worth it where they are small: of as many rows as lie on the lanes of a register.
    let small = Some(128 / group).filter(|small| small * group == 128);
    let mut found = Vec::new();
    for q in [64, 128, 256, 512] {
        for block in [None].into_iter().chain(small.filter(|&small| small < q).map(Some)) {
            let rows = block.unwrap_or(q) * group;
            if !rows.is_multiple_of(128) || rows > 1024 {
                continue;
            }
            for kv in [256, 512, 1024] {
                for own in if workload == CLASSES[0].1 { &[128, 256][..] } else { &[128] } {
                    let candidate = Candidate {
                        tiles: Tiles { q, kv, own: *own, block }.to_string(),
                        page_size: PAGE_SIZE,
                        scaled_scores: device == DeviceKind::V5e,
                        cycles: None,
                        vmem: None,
                    };
                    let (attention, build) = shape(device, workload, heads, &candidate)?;
                    let plan = plan(&attention, &build)?;
                    if attention_vmem(&attention.spec()?, &plan.tiling()) <= build.kind()?.vmem_budget() {
                        found.push((modelled(device, heads, &plan), candidate));
                    }
                }
            }
        }
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let best = found.first().map_or(0.0, |m| m.0);
    found.retain(|m| m.0 <= PRUNED * best);
    found.truncate(MOST);
    Ok(found.into_iter().map(|m| m.1).collect())
}

/// Cycles of a plan by a static model: matrix work, more of it where few rows lie on lanes or where tiles are large, and a
/// fixed cost a visit; or copies, if they take longer.
fn modelled(device: DeviceKind, heads: Heads, plan: &Plan) -> f64 {
    const VISIT_SLOTS: f64 = 400.0;
    let tiling = plan.tiling();
    let rows = (tiling.row_block() * heads.q / heads.kv) as f64;
    let blocks = tiling.row_block() < tiling.q_tile();
    let (mut computed, mut copied, mut visits) = (0.0, 0.0, 0.0);
    let mut before = None;
    for tile in (0..plan.stats().q_tiles).flat_map(|t| plan.tiles(t)) {
        let short = if blocks { tile.keys <= tiling.own_tile() } else { tile.source == TileSource::Slots };
        let keys = if short { tiling.own_tile() } else { tiling.kv_tile() } as f64;
        computed += keys;
        visits += 1.0;
        if before.replace((tile.source, tile.start)) != Some((tile.source, tile.start)) {
            copied += keys;
        }
    }
    let dims = (heads.kv * heads.dim) as f64;
    // Operands of the matrix unit are loaded once for all rows on lanes.
    let loads = 1.0 + 192.0 / rows;
    // Units that contract 256 elements take two heads of 128 at once where rows are 128.
    let paired = rows == 128.0 && heads.dim == 128 && heads.kv.is_multiple_of(2) && device != DeviceKind::V5e;
    let loads = if paired { loads * 2.0 / 3.0 } else { loads };
    // Bodies over more rows or keys than 512 were found to spill.
    let beyond = |n: f64| (n / 512.0).log2().max(0.0);
    let spills = 1.0 + 0.3 * (beyond(rows) + beyond(tiling.kv_tile() as f64));
    let flops = 4.0 * computed * rows * dims;
    let compute = loads * spills * flops / device.flops_per_cycle() + VISIT_SLOTS * visits;
    let copies = 4.0 * copied * dims / device.hbm_bandwidth() * device.clock();
    // They overlap, but not all of the time.
    compute.max(copies) + 0.1 * compute.min(copies)
}

/// The chosen one's variations, for scoring: the other way to scale, another page size.
fn variations(workload: &str, chosen: &Candidate) -> Vec<Candidate> {
    let fresh = Candidate { cycles: None, vmem: None, ..chosen.clone() };
    if workload != CLASSES[0].1 {
        return Vec::new();
    }
    vec![
        Candidate { scaled_scores: !chosen.scaled_scores, ..fresh.clone() },
        Candidate { page_size: OTHER_PAGE_SIZE, ..fresh },
    ]
}

/// The one that the rule chooses among candidates of the page size that tiles are searched at.
fn choose(candidates: &[Candidate]) -> anyhow::Result<&Candidate> {
    let measured = || candidates.iter().filter(|c| c.page_size == PAGE_SIZE && c.cycles.is_some());
    let least = measured().filter_map(|c| c.cycles).min().context("no candidate fits into VMEM")?;
    let alike = measured().filter(|c| c.cycles.is_some_and(|cycles| cycles as f64 <= ALIKE * least as f64));
    alike.min_by_key(|c| (c.vmem, c.cycles)).context("no candidate")
}

fn entry(class: &str, workload: &str, heads: Heads, candidate: Vec<Candidate>) -> anyhow::Result<Entry> {
    let chosen = choose(&candidate)?;
    let tiles: Tiles = chosen.tiles.parse().map_err(|e: String| anyhow::anyhow!(e))?;
    Ok(Entry {
        class: class.to_owned(),
        workload: workload.to_owned(),
        q_heads: heads.q,
        kv_heads: heads.kv,
        head_dim: heads.dim,
        dtype: "bf16".to_owned(),
        page_size: PAGE_SIZE,
        scaled_scores: chosen.scaled_scores,
        tiles: Chosen { q_tile: tiles.q, kv_tile: tiles.kv, own_tile: tiles.own, row_block: tiles.block },
        candidate,
    })
}

fn tune(
    compiler: &Compiler,
    cache: &Path,
    device: DeviceKind,
    class: &str,
    workload: &str,
    heads: Heads,
) -> anyhow::Result<Entry> {
    let measure = |candidate: &mut Candidate| -> anyhow::Result<()> {
        let (attention, build) = shape(device, workload, heads, candidate)?;
        let kernel = Case::new(&Workload::Attention(attention), &build)?.kernel;
        match compiler.schedule(&kernel, device, cache) {
            Ok(schedule) => {
                let replay = schedule.replay(kernel.prefetch(), &device.dma_model(LATENCY));
                ensure!(replay.trusted(), "{}: not trusted: {:?}", candidate.tiles, replay.trouble);
                candidate.cycles = Some(replay.cycles.round() as u64);
                candidate.vmem = Some(schedule.memory().vmem);
            }
            Err(error) => ensure!(format!("{error:#}").contains("vmem"), "{}: {error:#}", candidate.tiles),
        }
        eprintln!("  {candidate:?}");
        Ok(())
    };
    let mut all = candidates(device, workload, heads)?;
    all.iter_mut().try_for_each(measure)?;
    let mut more = variations(workload, choose(&all)?);
    more.iter_mut().try_for_each(measure)?;
    all.extend(more);
    entry(class, workload, heads, all)
}

/// Whether a table has the cases, the candidates and the choices that the rules give.
fn check(device: DeviceKind, table: &Table) -> anyhow::Result<()> {
    ensure!(table.device == device.to_string(), "device is {:?}", table.device);
    let cases: Vec<_> = cases(device).collect();
    ensure!(table.entry.len() == cases.len(), "{} entries of {}", table.entry.len(), cases.len());
    for (found, (class, workload, heads)) in table.entry.iter().zip(cases) {
        let name = format!("{class} {}/{}x{}", heads.q, heads.kv, heads.dim);
        let rebuilt = entry(class, workload, heads, found.candidate.clone()).with_context(|| name.clone())?;
        ensure!(*found == rebuilt, "{name}: the rules choose {:?}", rebuilt.tiles);
        let searched = candidates(device, workload, heads)?;
        let (tiles, more) =
            found.candidate.split_at_checked(searched.len()).context("candidates are missing")?;
        let bare = |c: &Candidate| Candidate { cycles: None, vmem: None, ..c.clone() };
        let left: Vec<_> = searched.iter().map(|c| &c.tiles).collect();
        ensure!(tiles.iter().map(bare).eq(searched.clone()), "{name}: the model leaves {left:?}");
        let varied = variations(workload, choose(tiles)?);
        ensure!(more.iter().map(bare).eq(varied), "{name}: other variations of the choice");
    }
    Ok(())
}
