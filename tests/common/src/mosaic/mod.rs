//! Runs the Mosaic texts in the emulator: what the StableHLO functions around them do, on the host.

mod attention;
mod kv_write;
mod labels;

pub use attention::{MosaicAttention, mosaic_plan, mosaic_tiling, q_tile, row_block_tiling};
pub use kv_write::{Bits, KvWriteCase};
pub use labels::LabelCase;
