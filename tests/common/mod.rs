//! Random specs, batches and tensors, shared by the integration tests. Small enough for the slow reference.
#![allow(dead_code, unused_imports, unreachable_pub)] // each test uses its part

mod batches;
mod cases;
mod compare;
mod random;
mod scene;
mod specs;
mod tensors;

pub use batches::{Batch, GroupShape, OwnedGroup, batches, batches_with_gaps};
pub use cases::{cases, property};
pub use compare::{Errors, bits};
pub use random::Random;
pub use scene::{QueryIn, Scene};
pub use specs::{page_sizes, score_size, specs, tilings, tilings_of_all_kinds, windows};
pub use tensors::{Element, Tensors, normal};
