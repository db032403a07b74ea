use super::identity::slots_identity;
use super::plan::PlanNumber;
use super::{BatchError, Plan, Planner};

/// Where the new keys and values of a pass are written: one checked slot a row of one plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvSlots {
    page_size: usize,
    /// Whose they are, then a slot a row.
    words: Vec<i32>,
    plan: PlanNumber,
}

/// Tokens of a chunk, the aligned unit in which TPU kernels copy parts of pages; divides every page size.
pub(crate) const CHUNK: usize = 8;

/// Words of a chunk table for `tokens` rows, an `i32`, and the word at which its entries start.
pub(crate) const fn chunk_table_words(tokens: usize) -> (usize, usize) {
    let entries = 2 + 3 * (tokens + 1);
    (entries + tokens, entries)
}

impl KvSlots {
    /// Checks `slots`, one entry a new token of `plan`: `page * page_size + offset`, or -1 for no write.
    ///
    /// A page holds one sequence: tokens of one segment may be written to it, and those of the lead before them. Free slots
    /// behind a prefix in its last page may be written, by one sequence of those that read it.
    ///
    /// # Errors
    /// A plan of another pool, slots beyond the pool, slots of padding tokens, a slot named twice, a page that two sequences
    /// write, and a slot that a prefix of the same pass reads.
    pub fn new(planner: &Planner, plan: &Plan, slots: &[i32]) -> Result<Self, BatchError> {
        let (page_size, pool_pages) = (planner.page_size(), planner.pool_pages());
        let (plan_page_size, plan_pool_pages) = (plan.page_size(), plan.pool_pages());
        if (plan_page_size, plan_pool_pages) != (page_size, pool_pages) {
            return Err(BatchError::OtherPool { page_size, pool_pages, plan_page_size, plan_pool_pages });
        }
        if slots.len() != plan.num_tokens() {
            return Err(BatchError::SlotCount { found: slots.len(), tokens: plan.num_tokens() });
        }
        let capacity = page_size * pool_pages;
        let mut read = vec![0u32; pool_pages];
        for (page, used) in plan.prefix_reads() {
            read[page] = read[page].max(used as u32);
        }
        // Zeroed by the allocator: a vast pool costs memory only where slots are named. A bit a slot, and of every page one
        // more than the last row that writes it.
        let mut written = vec![0u64; capacity.div_ceil(64)];
        let mut writers = vec![0u32; pool_pages];
        for (at, &slot) in slots.iter().enumerate() {
            if slot == -1 {
                continue;
            }
            if slot < 0 || slot as usize >= capacity {
                return Err(BatchError::SlotOutOfRange { at, slot, capacity });
            }
            if plan.is_padding(at) {
                return Err(BatchError::WriteOfPadding { at, slot });
            }
            let (page, offset) = (slot as usize / page_size, slot as usize % page_size);
            if offset < read[page] as usize {
                return Err(BatchError::WriteToPrefix { at, slot, page });
            }
            let (word, bit) = (&mut written[slot as usize / 64], 1 << (slot % 64));
            if *word & bit != 0 {
                let first = slots.iter().position(|&s| s == slot).unwrap_or(at);
                let (group, first_group) = (plan.group_of(at), plan.group_of(first));
                return Err(BatchError::RepeatedSlot { at, group, first, first_group, slot, page });
            }
            *word |= bit;
            let writer = std::mem::replace(&mut writers[page], at as u32 + 1) as usize;
            if let Some(first) = writer.checked_sub(1).filter(|&first| !plan.same_sequence(first, at)) {
                let (group, first_group) = (plan.group_of(at), plan.group_of(first));
                return Err(BatchError::SharedPage { at, group, first, first_group, slot, page });
            }
        }
        let mut padded = Self::none(plan);
        padded.words[1..][..slots.len()].copy_from_slice(slots);
        Ok(padded)
    }

    /// No row is written.
    pub fn none(plan: &Plan) -> Self {
        let (page_size, rows) = (plan.page_size(), plan.bucket().tokens);
        let mut words = vec![-1; 1 + rows];
        words[0] = slots_identity(false, page_size, rows);
        KvSlots { page_size, words, plan: plan.number }
    }

    /// Whether no row is written.
    pub fn is_empty(&self) -> bool {
        self.slots().iter().all(|&slot| slot < 0)
    }

    /// The slot of every row, `[bucket.tokens]`; -1 where a row is not written.
    pub fn slots(&self) -> &[i32] {
        &self.words[1..]
    }

    /// The slots as portable kernels take them in a pass of `plan`, `[1 + bucket.tokens]`: a word that says for which page
    /// size and rows they are, then [`slots`](Self::slots). A kernel for others writes nothing.
    ///
    /// # Errors
    /// They were made for another plan, clones of it aside.
    pub fn words(&self, plan: &Plan) -> Result<&[i32], BatchError> {
        self.check(plan)?;
        Ok(&self.words)
    }

    fn check(&self, plan: &Plan) -> Result<(), BatchError> {
        let (PlanNumber(found), PlanNumber(plan)) = (self.plan, plan.number);
        if found == plan { Ok(()) } else { Err(BatchError::OtherPlan { found, plan }) }
    }

    /// Slots of a chunk, the unit of [`chunk_table`](Self::chunk_table).
    pub const CHUNK: usize = CHUNK;

    /// Word at which the entries of the [`chunk_table`](Self::chunk_table) start. Every third word from word 2 up to it is a
    /// chunk's index in the pool.
    pub fn chunk_entries(&self) -> usize {
        chunk_table_words(self.slots().len()).1
    }

    /// The slots as TPU kernels take them, sorted by chunk (8 slots from a multiple of 8): a word that says for which page
    /// size and rows they are, as that of [`words`](Self::words); the number of chunks written; of each its index in the pool,
    /// a bit for every written token, and its first entry; behind the last chunk the number of entries; then the entries,
    /// `row * 8 + token in the chunk`.
    ///
    /// Its length depends on [`slots`](Self::slots) only by their number.
    ///
    /// # Errors
    /// As for [`words`](Self::words).
    pub fn chunk_table(&self, plan: &Plan) -> Result<Vec<i32>, BatchError> {
        self.check(plan)?;
        let chunk = CHUNK as i32;
        let mut writes: Vec<(i32, i32)> = (0i32..).zip(self.slots()).map(|(row, &s)| (s, row)).collect();
        writes.retain(|&(slot, _)| slot >= 0);
        writes.sort_unstable();
        let (words, entries) = chunk_table_words(self.slots().len());
        let mut table = vec![0; words];
        table[0] = slots_identity(true, self.page_size, self.slots().len());
        let (mut at, mut first) = (2, 0);
        for writes in writes.chunk_by(|a, b| a.0 / chunk == b.0 / chunk) {
            let mask = writes.iter().fold(0, |mask, (slot, _)| mask | 1 << (slot % chunk));
            table[at..at + 3].copy_from_slice(&[writes[0].0 / chunk, mask, first]);
            for (entry, (slot, row)) in table[entries + first as usize..].iter_mut().zip(writes) {
                *entry = row * chunk + slot % chunk;
            }
            table[1] += 1;
            at += 3;
            first += writes.len() as i32;
        }
        table[at + 2] = first;
        Ok(table)
    }
}
