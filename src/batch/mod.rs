//! What is ragged about a batch: groups, segments, pages; checked, bucketed, and turned into device metadata.
//!
//! A batch is a list of [`Group`]s over one ragged token stream. A group shares a prefix: keys and values that
//! already lie in KV pages, and/or its own first segment, the *lead*. [`Planner::plan`] validates all of it and
//! emits one [`Plan`]: a single `i32` tensor that tells a kernel exactly which key tiles each query tile visits.
//!
//! | I want … | |
//! | --- | --- |
//! | to describe requests, sequences, prompts | [`Group`] |
//! | a plan for a kernel | [`Planner::plan`], with block sizes from [`Target::tiling`](crate::kernels::Target::tiling) |
//! | padding where it saves time | [`Planner::with_gaps`], [`Planner::starts`] |
//! | the words that a kernel reads | [`Plan::meta`] |
//! | positions for rotary embeddings | [`Plan::positions`] |
//! | to say which pages new keys and values go to | [`KvSlots::new`], [`KvSlots::words`], on a TPU [`KvSlots::chunk_table`] |
//! | to know which compiled program a plan fits | [`Plan::bucket`] |

mod bucket;
mod draft;
mod error;
mod group;
mod identity;
mod kv_slots;
mod limits;
mod meta;
mod plan;
mod planner;
mod tile_sizes;
mod tiles;
mod tiling;
mod tpu_tiling;

pub use bucket::Bucket;
pub use error::BatchError;
pub use group::Group;
pub(crate) use identity::{identity, slots_identity};
pub use kv_slots::KvSlots;
pub(crate) use kv_slots::{CHUNK, chunk_table_words};
pub use meta::layout;
pub use plan::{Plan, PlanStats};
pub use planner::Planner;
pub use tile_sizes::TileSizes;
pub use tiles::{Tile, TileSource};
pub use tiling::Tiling;
pub use tpu_tiling::{ScaleOn, TpuTiling};
