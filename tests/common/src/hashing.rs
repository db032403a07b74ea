//! An engine that reads each plan as a kernel does: a wrong group, row, position, page or label gives another number.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};

use tpu_rpa::batch::{Tile, TileSource, Tiling, layout};
use tpu_rpa::score::{ForwardPass, Limits, Pass, ScoreRequest};

/// Tokens of a page of its limits.
pub const PAGE_SIZE: usize = 8;

/// A token and the position that it was computed at.
pub type Key = (i32, i32);

/// Log-prob of a label after a prompt: any number that all of both decide.
fn logprob(prompt: &[Key], label: i32) -> f32 {
    let mut hasher = DefaultHasher::new();
    (prompt, label).hash(&mut hasher);
    -((hasher.finish() >> 44) as f32) / 65536.0
}

/// An engine whose log-probs are hashes of what each row sees and of the label.
pub struct Hashing {
    limits: Limits,
    pages: Vec<Option<Key>>,
    /// Tokens of the passes so far.
    pub passes: Vec<usize>,
}

impl Hashing {
    /// `limits` with pages of [`PAGE_SIZE`] tokens.
    pub fn new(limits: Limits) -> Self {
        Hashing { limits, pages: vec![None; limits.pool_pages * PAGE_SIZE], passes: Vec::new() }
    }

    /// What a row sees, by position.
    pub fn seen(&self, pass: &Pass, row: usize) -> Vec<Key> {
        let (plan, meta) = (pass.plan(), pass.plan().meta());
        let rows = plan.bucket().tokens;
        let section = |section: usize| meta[layout::HEADER + section * rows + row] as usize;
        let own = section(layout::OWN_START)..=section(layout::OWN_KEY);
        let (q_tile, block) = (plan.bucket().q_tile, plan.tiling().row_block());
        let in_block = row % block;
        let token = |at: usize| (pass.token_ids()[at], plan.positions()[at]);
        let mut seen = Vec::new();
        for Tile { source, start, keys, whole_rows: (lo, hi), first_row, row_block, .. } in
            plan.tiles(row / q_tile)
        {
            let computed = source != TileSource::Slots
                || (first_row..first_row + plan.tiling().slot_rows()).contains(&in_block);
            if !computed || row_block != row % q_tile / block {
                continue;
            }
            for j in 0..keys {
                let (number, key) = match source {
                    TileSource::Pages => {
                        let page = meta[meta[layout::PAGES] as usize + start + j / PAGE_SIZE] as usize;
                        (None, self.pages[page * PAGE_SIZE + j % PAGE_SIZE].expect("a slot that was written"))
                    }
                    TileSource::Tokens if matches!(plan.tiling(), Tiling::Portable(_)) => {
                        (Some(start + j), token(start + j))
                    }
                    TileSource::Tokens | TileSource::Slots => {
                        let at = meta[meta[layout::SLOTS] as usize + start + j];
                        (Some(rows + start + j), token(at as usize))
                    }
                };
                let whole = (lo..hi).contains(&in_block);
                if whole || number.is_some_and(|number| own.contains(&number)) {
                    seen.push(key);
                }
            }
        }
        seen.sort_by_key(|&(_, position)| position);
        seen
    }
}

impl ForwardPass for Hashing {
    type Error = Infallible;

    fn limits(&self) -> Limits {
        self.limits
    }

    fn run(&mut self, pass: &Pass) -> Result<Vec<f32>, Infallible> {
        self.passes.push(pass.plan().num_tokens());
        let mut values = Vec::new();
        for &row in pass.rows() {
            let seen = self.seen(pass, row as usize);
            values.extend(pass.labels().iter().map(|&label| logprob(&seen, label)));
        }
        let written = pass.kv_slots().slots().iter().enumerate().filter(|&(_, &slot)| slot >= 0);
        for (row, &slot) in written {
            self.pages[slot as usize] = Some((pass.token_ids()[row], pass.plan().positions()[row]));
        }
        Ok(values)
    }
}

/// The definition: every prompt alone.
pub fn expected(request: &ScoreRequest) -> Vec<Vec<f32>> {
    let prompt = |item: &Vec<i32>| -> Vec<Key> {
        let (first, second) =
            if request.item_first { (item, &request.query) } else { (&request.query, item) };
        first.iter().chain(second).copied().zip(0..).collect()
    };
    let of_item = |item| request.label_token_ids.iter().map(|&l| logprob(&prompt(item), l)).collect();
    request.items.iter().map(of_item).collect()
}
