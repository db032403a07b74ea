//! What the tests of the library and of its examples share: random specs, batches and tensors, small enough for the slow
//! reference; comparison with it; the devices that tests run on; operands of the Mosaic kernels.

mod batches;
mod cases;
mod compare;
pub mod device;
pub mod gguf;
pub mod hashing;
pub mod libtpu;
pub mod mosaic;
mod random;
mod scene;
mod specs;
mod tensors;
pub mod tpu_function;

use std::path::Path;

pub use batches::{Batch, GroupShape, OwnedGroup, batches, batches_with_gaps};
pub use cases::{cases, property};
pub use compare::{Errors, bits};
pub use random::Random;
pub use scene::{QueryIn, Scene};
pub use specs::{page_sizes, score_size, specs, tilings, tilings_of_all_kinds, windows};
pub use tensors::{Element, Tensors, normal};

/// Root of the repository.
pub fn root() -> &'static Path {
    // This crate is two folders below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("a crate lies in a folder")
}
