//! Executes the text of a Mosaic (TPU) kernel on the CPU and diagnoses what the device would not forgive.
//!
//! The text is the one that ships: pretty or generic MLIR of the `arith`, `math`, `vector`, `memref`, `scf`, `func`
//! and `tpu` dialects as far as kernels use them. An op that is not known is an error that names it.
//!
//! ```
//! use tpu_rpa::emulator::{Emulator, ElementType, Operands, Tensor};
//!
//! let text = r#"
//! func.func @double(%x: memref<8x128xf32, #tpu.memory_space<vmem>>, %o: memref<8x128xf32, #tpu.memory_space<vmem>>)
//!     attributes {tpu.core_type = #tpu.core_type<tc>} {
//!   %c0 = arith.constant 0 : index
//!   %a = vector.load %x[%c0, %c0] : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<8x128xf32>
//!   %b = arith.addf %a, %a : vector<8x128xf32> // count: additions
//!   tpu.vector_store %o[%c0, %c0], %b {strides = array<i32>} : memref<8x128xf32, #tpu.memory_space<vmem>>, vector<8x128xf32>,
//!   return
//! }"#;
//! let operands = Operands::new().input(Tensor::full(&[8, 128], 1.5f32)?).output(ElementType::F32, &[8, 128]);
//! let outcome = Emulator::new(text)?.run(&operands)?;
//! assert_eq!(outcome.outputs[0], Tensor::full(&[8, 128], 3f32)?);
//! assert_eq!(outcome.report.count("additions"), 1);
//! # Ok::<(), tpu_rpa::emulator::EmulatorError>(())
//! ```
//!
//! # What is modelled
//! * **Grid and windows.** A window is fetched or written back when its block index changes. An output window that
//!   stays where it was keeps its content; one that moved starts uninitialised, also where it has been before. The
//!   part of a block that hangs over the array's edge is uninitialised and never written back.
//! * **Memory.** What nothing has written reads as NaN in floats and is a fault in integers; see [`FaultKind`] for
//!   all faults and [`FaultPolicy`] for going on after one.
//! * **DMA.** Semaphores count bytes. A DMA counts as in flight until waits have taken *all* bytes started on its
//!   semaphore, because with several under way no smaller count proves which of them is complete. [`DmaPolicy`] says
//!   when bytes move; [`Emulator::run_all_policies`] compares.
//! * **Numbers.** f32 throughout, rounded to bf16 (ties to even) at every op whose result is bf16. Sums have a fixed
//!   order ([`ReductionOrder`]). `fastmath` flags, `precision` and `approx` change nothing. Results do not depend on
//!   the machine, except f64-based functions (`log`, `tanh`, ..), which depend on its math library.
//!
//! # Counting
//! [`Report`] counts ops, loop trips, DMAs, bytes and grid steps. To count something by name, such as tiles visited,
//! write `// count: NAME` at the end of the line of an op that runs once for each; [`Report::count`] gives the
//! number. Several ops may share a name. The compiler ignores comments, so the marks can stay in the text that ships.
//!
//! Vector layouts and padding of tiles are not modelled; [`Emulator::check_alignment`] knows some of the compiler's
//! rules about them.

mod alignment;
mod budget;
mod builder;
mod dma;
mod error;
mod fault;
#[cfg(in_library)]
mod grid;
mod lanes;
mod liveness;
mod location;
mod machine;
mod memory;
#[cfg(in_library)]
mod operands;
mod ops;
mod options;
#[cfg(in_library)]
mod policies;
mod report;
mod rng;
mod signature;
mod simd;
#[cfg(in_library)]
mod tensor;
mod text;
mod transfer;
mod types;
mod value;

pub use alignment::{AlignmentFinding, AlignmentRule};
pub use budget::{MemoryUse, OverBudget};
pub use error::{EmulatorError, Result};
pub use fault::{Fault, FaultKind};
pub use location::Location;
#[cfg(all(in_library, feature = "runtime"))]
pub(crate) use memory::{Lent, Store, Words};
#[cfg(in_library)]
pub use operands::Operands;
pub use options::{DmaPolicy, FaultPolicy, GridOrder, ReductionOrder, RunOptions};
#[cfg(in_library)]
pub use report::Outcome;
pub use report::{LoopCount, Report, Traffic};
#[cfg(in_library)]
pub use tensor::{Element, Tensor};
pub use types::ElementType;

use builder::Builder;
use machine::Site;
use signature::Signature;

/// A kernel text, parsed, verified and ready to run any number of times.
pub struct Emulator {
    signature: Signature,
    sites: Vec<Site>,
    findings: Vec<AlignmentFinding>,
}

impl Emulator {
    /// Parses and verifies a text.
    pub fn new(text: &str) -> Result<Emulator> {
        let mut module = text::parse(text)?;
        for function in &mut module.functions {
            liveness::mark(&mut function.body);
        }
        let mut builder = Builder::new(&module, ops::build);
        let signature = Signature::build(&mut builder)?;
        let (sites, findings) = builder.into_sites()?;
        Ok(Emulator { signature, sites, findings })
    }

    /// Runs the kernel with default options.
    #[cfg(in_library)]
    pub fn run(&self, operands: &Operands) -> Result<Outcome> {
        self.run_with(operands, &RunOptions::default())
    }

    /// Runs the kernel.
    #[cfg(in_library)]
    pub fn run_with(&self, operands: &Operands, options: &RunOptions) -> Result<Outcome> {
        self.run_owned(operands.clone(), options)
    }

    /// Runs the kernel on operands that may be lent.
    #[cfg(in_library)]
    pub(crate) fn run_owned(&self, operands: Operands, options: &RunOptions) -> Result<Outcome> {
        grid::run(&self.signature, &self.sites, operands, options)
    }

    /// Accesses that the compiler is known to refuse because it cannot prove their alignment.
    pub fn check_alignment(&self) -> &[AlignmentFinding] {
        &self.findings
    }

    /// The entry function's name.
    pub fn name(&self) -> &str {
        &self.signature.name
    }

    /// Every op that the emulator implements, apart from terminators.
    pub fn supported_ops() -> Vec<&'static str> {
        ops::supported()
    }
}

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emulator")
            .field("name", &self.signature.name)
            .field("sites", &self.sites.len())
            .finish()
    }
}
