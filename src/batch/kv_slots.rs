use super::identity::slots_identity;
use super::{BatchError, Plan, Planner};

/// Where the new keys and values of a pass are written: one checked slot a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvSlots {
    page_size: usize,
    /// Whose they are, then a slot a row.
    words: Vec<i32>,
}

/// Tokens of a chunk, the aligned unit in which TPU kernels copy parts of pages; divides every page size.
pub(crate) const CHUNK: usize = 8;

/// Words of a chunk table for `tokens` rows, and the word at which its entries start.
pub(crate) const fn chunk_table_words(tokens: usize) -> (usize, usize) {
    let entries = 2 + 3 * (tokens + 1);
    (entries + tokens, entries)
}

impl KvSlots {
    /// Checks `slots`, one entry a new token of `plan`: `page * page_size + offset`, or -1 for no write.
    ///
    /// Refuses a plan of another pool, slots beyond the pool, slots of padding tokens, a slot named twice, and a slot that a
    /// prefix of the same pass reads; free slots behind a prefix in its last page may be written.
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
        let mut read = vec![0; pool_pages];
        for (page, used) in plan.prefix_reads() {
            read[page] = used.max(read[page]);
        }
        // A bit a slot. Zeroed by the allocator: a vast pool costs memory only where slots are named.
        let mut written = vec![0u64; capacity.div_ceil(64)];
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
            if offset < read[page] {
                return Err(BatchError::WriteToPrefix { at, slot, page });
            }
            let (word, bit) = (&mut written[slot as usize / 64], 1 << (slot % 64));
            if *word & bit != 0 {
                let first = slots.iter().position(|&s| s == slot).unwrap_or(at);
                return Err(BatchError::RepeatedSlot { at, first, slot });
            }
            *word |= bit;
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
        KvSlots { page_size, words }
    }

    /// The slot of every row, `[bucket.tokens]`; -1 where a row is not written.
    pub fn slots(&self) -> &[i32] {
        &self.words[1..]
    }

    /// The slots as portable kernels take them, `[1 + bucket.tokens]`: a word that says for which page size and rows they
    /// are, then [`slots`](Self::slots). A kernel for others writes nothing.
    pub fn words(&self) -> &[i32] {
        &self.words
    }

    /// Slots of a chunk, the unit of [`chunk_table`](Self::chunk_table).
    pub const CHUNK: usize = CHUNK;

    /// Word at which the entries of a [`chunk_table`](Self::chunk_table) for this many rows start. Every third word
    /// from word 2 up to it is a chunk's index in the pool.
    pub const fn chunk_entries(rows: usize) -> usize {
        chunk_table_words(rows).1
    }

    /// The slots as TPU kernels take them, sorted by chunk (8 slots from a multiple of 8): a word that says for which page
    /// size and rows they are, as that of [`words`](Self::words); the number of chunks written; of each its index in the pool, a bit for every written token, and its first entry; behind the last
    /// chunk the number of entries; then the entries, `row * 8 + token in the chunk`.
    ///
    /// Its length depends on [`slots`](Self::slots) only by their number.
    pub fn chunk_table(&self) -> Vec<i32> {
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
        table
    }
}
