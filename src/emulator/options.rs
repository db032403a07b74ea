/// When the bytes of a DMA arrive. A kernel must compute the same under every policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DmaPolicy {
    /// At the start: the fastest DMA possible.
    #[default]
    Eager,
    /// At the wait that needs them, oldest first: the slowest DMA possible.
    OnWait,
    /// At random points between start and wait, in random order, by [`RunOptions::seed`].
    Random,
}

/// Order of the grid dimensions that the kernel declares `parallel`; the others always count up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GridOrder {
    /// Counting up.
    #[default]
    Sequential,
    /// Counting down.
    Reversed,
    /// A random permutation of each parallel dimension, by [`RunOptions::seed`].
    Permuted,
}

/// Order of the additions of a sum, the same for every element whatever its position in the tile.
///
/// Real units add in an order of their own; a kernel that claims bits must give them under both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReductionOrder {
    /// First to last, starting from zero.
    #[default]
    Sequential,
    /// Neighbours in pairs, then pairs of pairs: element `i` is in the subtree `i / 2^level` of each level. A
    /// length that is no power of two is as if padded with nothing.
    BalancedTree,
}

/// What happens at a fault after which execution can go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultPolicy {
    /// The run fails with it.
    #[default]
    Stop,
    /// It is listed in [`Report::faults`](super::Report::faults), once for each op and kind.
    Record,
}

/// How a kernel is executed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunOptions {
    /// When DMAs complete.
    pub dma: DmaPolicy,
    /// Order of parallel grid dimensions.
    pub grid_order: GridOrder,
    /// Order of additions of `vector.multi_reduction`.
    pub reduction: ReductionOrder,
    /// Order of additions along the contracted dimension of `tpu.matmul`.
    pub matmul: ReductionOrder,
    /// Faults that need not end the run.
    pub faults: FaultPolicy,
    /// Seed of the random policies.
    pub seed: u64,
    /// Ops executed at most.
    pub max_steps: u64,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions {
            dma: DmaPolicy::default(),
            grid_order: GridOrder::default(),
            reduction: ReductionOrder::default(),
            matmul: ReductionOrder::default(),
            faults: FaultPolicy::default(),
            seed: 0,
            max_steps: 1_000_000_000,
        }
    }
}

impl RunOptions {
    /// Sets when DMAs complete.
    pub fn dma(mut self, policy: DmaPolicy) -> Self {
        self.dma = policy;
        self
    }

    /// Sets the order of parallel grid dimensions.
    pub fn grid_order(mut self, order: GridOrder) -> Self {
        self.grid_order = order;
        self
    }

    /// Sets the order of additions of reductions and matrix products alike.
    pub fn sums(mut self, order: ReductionOrder) -> Self {
        self.reduction = order;
        self.matmul = order;
        self
    }

    /// Sets what happens at a fault after which execution can go on.
    pub fn faults(mut self, policy: FaultPolicy) -> Self {
        self.faults = policy;
        self
    }

    /// Sets the seed of the random policies.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the number of ops after which a run is given up.
    pub fn max_steps(mut self, steps: u64) -> Self {
        self.max_steps = steps;
        self
    }
}
