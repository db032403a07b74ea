//! What the command line says of workloads and kernels is to the library.

use std::collections::HashSet;

use anyhow::{Context as _, ensure};
use tpu_rpa::batch::{ScaleOn, Tiling};
use tpu_rpa::kernels::{TpuKind, WorkloadClass, tuned_tiling};
use tpu_rpa::schedule::DeviceKind;
use tpu_rpa::spec::AttentionSpec;
use workloads::{Source, Workload, WorkloadError};

use crate::args::{Build, Heads, Shape};

impl Shape {
    /// The workloads, with the values that flags override.
    pub(crate) fn workloads(&self) -> anyhow::Result<Vec<Source>> {
        let sources = self.workload.iter().map(|what| self.open(what)).collect::<anyhow::Result<Vec<_>>>()?;
        let mut names = HashSet::new();
        for source in &sources {
            ensure!(names.insert(&source.name), "two workloads are called {source}");
        }
        Ok(sources)
    }

    fn open(&self, what: &str) -> anyhow::Result<Source> {
        let mut source = Source::open(what)?;
        match &mut source.workload {
            Workload::Attention(attention) => {
                if let Some(heads) = self.heads {
                    heads.set(attention);
                }
                attention.page_size = self.page_size.unwrap_or(attention.page_size);
                attention.dtype = self.dtype.unwrap_or(attention.dtype);
            }
            Workload::Labels(labels) => labels.dtype = self.dtype.unwrap_or(labels.dtype),
        }
        source.workload.check().map_err(|problem| WorkloadError { file: what.to_owned(), problem })?;
        Ok(source)
    }
}

impl Heads {
    pub(crate) fn set(self, attention: &mut workloads::Attention) {
        (attention.q_heads, attention.kv_heads, attention.head_dim) = (self.q, self.kv, self.dim);
    }
}

impl Build {
    pub(crate) fn kind(&self) -> anyhow::Result<TpuKind> {
        TpuKind::of_device(self.device.name()).context("no kind of TPU")
    }

    /// The tiles that were asked for, or those that a client would choose.
    pub(crate) fn tiling(&self, spec: &AttentionSpec, class: WorkloadClass) -> anyhow::Result<Tiling> {
        let Some(tiles) = self.tiles else {
            return Ok(tuned_tiling(self.kind()?, spec, class)?.tiling());
        };
        let mut tiling = Tiling::tpu(tiles.q, tiles.kv, tiles.own, spec.page_size())?;
        if let Some(block) = tiles.block {
            tiling = tiling.with_row_block(block)?;
        }
        // v5e's matrix units contract 128 elements: two terms of a query would cost twice.
        let scaled = self.scaled_scores.unwrap_or(self.device == DeviceKind::V5e);
        let scale_on = if scaled { ScaleOn::Scores } else { ScaleOn::Queries };
        Ok(tiling.with_scale_on(scale_on).into())
    }
}
