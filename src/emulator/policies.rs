//! One kernel under every policy.

use super::Emulator;
use super::error::Result;
use super::fault::{Fault, FaultKind};
use super::operands::Operands;
use super::options::{DmaPolicy, GridOrder, RunOptions};
use super::report::Outcome;

/// Random DMA orders tried.
const RANDOM_RUNS: u64 = 3;

impl Emulator {
    /// Runs the kernel under all DMA policies and all orders of its parallel grid dimensions and compares the bits
    /// of the results. `options` gives everything else. Returns the outcome of the eager, sequential run.
    ///
    /// What cannot matter is left out: DMA policies if no DMA ran, orders if no dimension is parallel.
    pub fn run_all_policies(&self, operands: &Operands, options: &RunOptions) -> Result<Outcome> {
        let base = self.run_with(operands, options)?;
        let report = &base.report;
        let dmas = report.dma_in.count + report.dma_out.count + report.dma_local.count;
        let mut variants = Vec::new();
        if dmas > 0 {
            variants.push(options.clone().dma(DmaPolicy::OnWait));
            variants.extend(
                (0..RANDOM_RUNS)
                    .map(|i| options.clone().dma(DmaPolicy::Random).seed(options.seed.wrapping_add(i))),
            );
        }
        if self.signature.grid.iter().any(|g| g.parallel) {
            for order in [GridOrder::Reversed, GridOrder::Permuted] {
                variants.push(options.clone().grid_order(order));
                if dmas > 0 {
                    variants.push(options.clone().grid_order(order).dma(DmaPolicy::Random));
                }
            }
        }
        for variant in variants {
            let other = self.run_with(operands, &variant)?;
            for (i, (a, b)) in base.outputs.iter().zip(&other.outputs).enumerate() {
                let Some(at) = a.first_difference(b) else { continue };
                let site = &self.sites[self.signature.site];
                return Err(Fault {
                    kind: FaultKind::NonDeterministic,
                    location: site.location,
                    op: site.op.clone(),
                    message: format!(
                        "element {at} of result {i} differs between DMA {:?} with grid {:?} and DMA {:?} with grid {:?}, seed {}",
                        options.dma, options.grid_order, variant.dma, variant.grid_order, variant.seed
                    ),
                }
                .into());
            }
        }
        Ok(base)
    }
}
