use super::DeviceKind;

/// Work that any kernel has to do for a batch, whatever its tiles.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations of the matrix products.
    pub flops: f64,
    /// Cycles of the matrix units; see [`Work::attention`] and [`Work::matmul`].
    pub mxu_cycles: f64,
    /// Values that need an exponential.
    pub exponentials: f64,
    /// Vector ALU operations a value that needs an exponential.
    pub alu_ops: f64,
    /// Bytes to and from HBM, each operand read once and each result written once.
    pub bytes: f64,
    /// Copies that cannot be joined, such as one a page.
    pub copies: f64,
}

/// Times in seconds below which no kernel can be, each for one resource alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofs {
    /// Matrix units at the rate of their issue slots, see [`DeviceKind::rows_per_cycle`].
    pub mxu: f64,
    /// Vector units: one register of 1024 values a cycle through the one transcendental unit, and four a cycle through
    /// the vector ALUs, which is the capacity that the compiler's utilisation listing states for all three kinds.
    pub vector: f64,
    /// [Published HBM bandwidth](DeviceKind::hbm_bandwidth).
    pub hbm: f64,
    /// Issue of copies, seven slots each: the compiled loop of a row gather without bounds checks.
    pub dma_issue: f64,
}

/// Issue slots of one copy whose address comes from a table: load, address, start.
const SLOTS_PER_COPY: f64 = 7.0;

impl Work {
    /// Attention of `scores` visible (query head row, key) pairs with heads of `head_dim`.
    ///
    /// Matrix units, for a tile of 128 × 128 scores in the cheaper orientation (keys streamed through queries, then
    /// transposed values through probabilities): an array of n × n takes 16 rows an issue. `K Q^T` contracts
    /// `head_dim`, and leaves the rest of an array idle that is larger; `V^T P^T` contracts keys, which fill it. On
    /// v6e and v7x (n = 256, two arrays, 8 cycles an issue) that is 16 + 8 cycles at `head_dim` 128; on v5e (n = 128,
    /// four arrays, 16 cycles an issue) 32 + 32.
    ///
    /// Vector units, a score: an exponential; maximum, subtraction, sum, and half a pack to bf16.
    pub fn attention(device: DeviceKind, scores: f64, head_dim: usize, bytes: f64, copies: f64) -> Self {
        let array = device.array_size();
        let passes = head_dim.div_ceil(array) as f64;
        // Rows streamed, over rows a cycle of all arrays, over columns that one pass fills.
        let stream = |rows: f64| rows / device.rows_per_cycle() * 128.0 / array as f64;
        let keys = 128.0 / array as f64;
        let cycles = stream(128.0) * passes + stream(head_dim as f64) * keys;
        Work {
            flops: 4.0 * scores * head_dim as f64,
            mxu_cycles: scores / (128.0 * 128.0) * cycles,
            exponentials: scores,
            alu_ops: 3.5,
            bytes,
            copies,
        }
    }

    /// A matrix product with an exponential of every value: log-sum-exp over a vocabulary. Per value maximum,
    /// subtraction and sum.
    pub fn matmul(device: DeviceKind, rows: usize, inner: usize, columns: usize, bytes: f64) -> Self {
        let values = rows as f64 * columns as f64;
        let flops = 2.0 * values * inner as f64;
        Work {
            flops,
            mxu_cycles: flops / device.flops_per_cycle(),
            exponentials: values,
            alu_ops: 3.0,
            bytes,
            copies: 0.0,
        }
    }

    /// Times of each resource alone.
    pub fn roofs(&self, device: DeviceKind) -> Roofs {
        let registers = self.exponentials / 1024.0;
        Roofs {
            mxu: self.mxu_cycles / device.clock(),
            vector: registers.max(registers * self.alu_ops / 4.0) / device.clock(),
            hbm: self.bytes / device.hbm_bandwidth(),
            dma_issue: self.copies * SLOTS_PER_COPY / device.clock(),
        }
    }
}

impl Roofs {
    /// The four with their names.
    pub fn named(&self) -> [(&'static str, f64); 4] {
        [("MXU", self.mxu), ("vector", self.vector), ("HBM", self.hbm), ("DMA issue", self.dma_issue)]
    }

    /// The highest.
    pub fn floor(&self) -> f64 {
        self.named().into_iter().map(|(_, t)| t).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_takes_24_cycles_on_v6e_and_64_on_v5e() {
        let tile = |device, dim| Work::attention(device, 128.0 * 128.0, dim, 0.0, 0.0).mxu_cycles;
        assert_eq!(tile(DeviceKind::V6e, 128), 24.0);
        assert_eq!(tile(DeviceKind::V7x, 128), 24.0);
        assert_eq!(tile(DeviceKind::V5e, 128), 64.0);
        assert_eq!(tile(DeviceKind::V6e, 256), 32.0);
        assert_eq!(tile(DeviceKind::V6e, 64), 20.0);
    }

    #[test]
    fn full_arrays_reach_the_published_peak() {
        let work = Work::matmul(DeviceKind::V6e, 4096, 4096, 4096, 0.0);
        let seconds = 2.0 * 4096f64.powi(3) / DeviceKind::V6e.peak_flops();
        assert!((work.roofs(DeviceKind::V6e).mxu - seconds).abs() < 1e-12);
        assert_eq!(work.flops, 2.0 * 4096f64.powi(3));
    }
}
