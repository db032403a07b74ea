//! The formulation to beat: every new token against every key in one matrix of scores.

use std::collections::HashMap;

use tpu_rpa::batch::Group;
use tpu_rpa::kernels;
use tpu_rpa::mask::{Key, Query, in_window, position, visible};
use tpu_rpa::runtime::{Client, CompileOptions};
use workloads::{Attention, Batch};

use crate::contender::{Contender, Fallible, tensors};

/// Most scores of all heads, and so words of the mask times query heads, that it is timed with: half a GiB in f32.
pub const MOST_SCORES: usize = 1 << 27;

/// Scores of all heads.
pub fn scores(workload: &Attention) -> usize {
    // At least one page is gathered, seen or not.
    let used = workload.used_pages().max(1);
    let keys = used.saturating_mul(workload.page_size).saturating_add(workload.tokens());
    workload.tokens().saturating_mul(keys).saturating_mul(workload.q_heads)
}

pub fn contender(client: &Client, workload: &Attention) -> Fallible<Contender> {
    let planner = workload.planner(kernels::default_tiling(workload.page_size)?)?;
    let batch = Batch::new(workload, &planner);
    let groups = batch.groups();
    let (slots, pages) = slots(&groups);
    let text = minijinja::Environment::new().render_str(
        include_str!("../baselines/dense.mlir"),
        minijinja::context! {
            tokens => batch.tokens(), q_heads => workload.q_heads, kv_heads => workload.kv_heads,
            head_dim => workload.head_dim, page_size => workload.page_size, pool_pages => workload.pool_pages(),
            prefix_pages => pages.len(), scale => workload.spec()?.scale(), soft_cap => workload.soft_cap,
            element => workload.dtype.mlir(),
        },
    )?;
    let mut arguments = tensors(client, workload, batch.tokens())?;
    arguments.push(client.upload(&pages, &[pages.len()])?);
    // An i32 mask, as the public TPU kernels take it.
    let paged = pages.len() * workload.page_size;
    let mask = mask(workload, &groups, &slots, paged);
    arguments.push(client.upload(&mask, &[batch.tokens(), paged + batch.tokens()])?);
    Ok(Contender { executable: client.compile(&text, &CompileOptions::new())?, arguments })
}

/// Where among the gathered pages each page lies, and the pages.
fn slots(groups: &[Group<'_>]) -> (HashMap<i32, usize>, Vec<i32>) {
    let (mut slots, mut pages) = (HashMap::new(), Vec::new());
    for &page in groups.iter().flat_map(|group| group.pages) {
        slots.entry(page).or_insert_with(|| {
            pages.push(page);
            pages.len() - 1
        });
    }
    if pages.is_empty() {
        pages.push(0);
    }
    (slots, pages)
}

/// Which new token, a row each, sees which key: those in pages, then the new ones.
fn mask(workload: &Attention, groups: &[Group<'_>], slots: &HashMap<i32, usize>, paged: usize) -> Vec<i32> {
    let keys = paged + workload.tokens();
    let mut mask = vec![0; workload.tokens() * keys];
    for group in groups {
        let prefix = group.prefix_len as usize;
        let tokens: Vec<(usize, usize)> = (0..group.cu_seg_lens.len() - 1)
            .flat_map(|s| {
                (group.cu_seg_lens[s]..group.cu_seg_lens[s + 1]).enumerate().map(move |(i, _)| (s, i))
            })
            .collect();
        let start = group.cu_seg_lens[0] as usize;
        let lead = if group.lead { (group.cu_seg_lens[1] - group.cu_seg_lens[0]) as usize } else { 0 };
        let at = |(segment, offset)| position(prefix, lead, Query { segment, offset }, group.lead) as i64;
        for (row, &query) in tokens.iter().enumerate() {
            let sees = |key: usize| i32::from(in_window(at(query), key as i64, workload.sliding_window));
            let line = &mut mask[(start + row) * keys..][..keys];
            for key in 0..prefix {
                let slot = slots[&group.pages[key / workload.page_size]];
                line[slot * workload.page_size + key % workload.page_size] = sees(key);
            }
            for (column, &key) in tokens.iter().enumerate() {
                let (segment, offset) = key;
                let query_of = Query { segment: query.0, offset: query.1 };
                if visible(query_of, Key::New { segment, offset }, group.lead) {
                    line[paged + start + column] = sees(at(key) as usize);
                }
            }
        }
    }
    mask
}
