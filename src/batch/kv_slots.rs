use super::{BatchError, Plan, Planner};

/// Where the new keys and values of a pass are written: one checked slot a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvSlots {
    slots: Vec<i32>,
}

impl KvSlots {
    /// Checks `slots`, one entry a new token of `plan`: `page * page_size + offset`, or -1 for no write.
    ///
    /// Refuses a plan of another pool, slots beyond the pool, a slot named twice, and a slot that a prefix of the same pass reads;
    /// free slots behind a prefix in its last page may be written.
    pub fn new(planner: &Planner, plan: &Plan, slots: &[i32]) -> Result<Self, BatchError> {
        let (page_size, pool_pages) = (planner.page_size(), planner.pool_pages());
        let (plan_page_size, plan_pool_pages) = plan.pool();
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
        let mut writer = std::collections::HashMap::with_capacity(slots.len());
        for (at, &slot) in slots.iter().enumerate() {
            if slot == -1 {
                continue;
            }
            if slot < 0 || slot as usize >= capacity {
                return Err(BatchError::SlotOutOfRange { at, slot, capacity });
            }
            let (page, offset) = (slot as usize / page_size, slot as usize % page_size);
            if offset < read[page] {
                return Err(BatchError::WriteToPrefix { at, slot, page });
            }
            if let Some(first) = writer.insert(slot, at) {
                return Err(BatchError::RepeatedSlot { at, first, slot });
            }
        }
        let mut padded = vec![-1; plan.bucket().tokens];
        padded[..slots.len()].copy_from_slice(slots);
        Ok(KvSlots { slots: padded })
    }

    /// No row is written.
    pub fn none(plan: &Plan) -> Self {
        KvSlots { slots: vec![-1; plan.bucket().tokens] }
    }

    /// The slot tensor, `[bucket.tokens]`; -1 where a row is not written.
    pub fn slots(&self) -> &[i32] {
        &self.slots
    }
}
