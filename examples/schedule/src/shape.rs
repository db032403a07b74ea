//! What a shape on the command line is to the library.

use anyhow::Context as _;
use tpu_rpa::batch::{ScaleOn, Tiling};
use tpu_rpa::kernels::{TpuKind, WorkloadClass, tuned_tiling};
use tpu_rpa::schedule::DeviceKind;
use tpu_rpa::spec::{AttentionSpec, DType};

use crate::args::Shape;

impl Shape {
    pub(crate) fn attention(&self) -> anyhow::Result<AttentionSpec> {
        let heads = self.heads;
        let spec = AttentionSpec::builder(heads.q, heads.kv, heads.dim);
        Ok(spec.page_size(self.page_size).dtype(DType::Bf16).build()?)
    }

    pub(crate) fn kind(&self) -> anyhow::Result<TpuKind> {
        TpuKind::of_device(self.device.name()).context("no kind of TPU")
    }

    /// The tiles that were asked for, or those that a client would choose.
    pub(crate) fn tiling(&self, class: WorkloadClass) -> anyhow::Result<Tiling> {
        let Some(tiles) = self.tiles else {
            return Ok(tuned_tiling(self.kind()?, &self.attention()?, class)?.tiling());
        };
        let mut tiling = Tiling::tpu(tiles.q, tiles.kv, tiles.own, self.page_size)?;
        if let Some(block) = tiles.block {
            tiling = tiling.with_row_block(block)?;
        }
        // v5e's matrix units contract 128 elements: two terms of a query would cost twice.
        let scaled = self.scaled_scores.unwrap_or(self.device == DeviceKind::V5e);
        let scale_on = if scaled { ScaleOn::Scores } else { ScaleOn::Queries };
        Ok(tiling.with_scale_on(scale_on).into())
    }
}
