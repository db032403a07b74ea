use ndarray::{Array2, Array3, Array4, Axis, s};
use tpu_rpa::batch::{Bucket, Plan, Planner, Tiling, layout};
use tpu_rpa::emulator::{self, ElementType, Emulator, Operands, Outcome, RunOptions};
use tpu_rpa::kernels;
use tpu_rpa::spec::{AttentionSpec, DType};

use crate::{Batch, Element, Tensors};

/// Least query tile whose rows fill lanes.
pub fn q_tile(spec: &AttentionSpec) -> usize {
    let mut q = 8;
    while !(q * spec.group_size()).is_multiple_of(128) {
        q *= 2;
    }
    q
}

/// A tiling that the Mosaic kernel takes, of the least query tile.
pub fn mosaic_tiling(spec: &AttentionSpec, kv_tile: usize, own_tile: usize) -> Tiling {
    row_block_tiling(spec, kv_tile, own_tile, 1)
}

/// A tiling whose query tiles are this many row blocks of the least size.
pub fn row_block_tiling(spec: &AttentionSpec, kv_tile: usize, own_tile: usize, blocks: usize) -> Tiling {
    let block = q_tile(spec);
    let q_tile = (block * blocks).min(1024);
    let tiling = Tiling::tpu(q_tile, kv_tile, own_tile, spec.page_size()).unwrap();
    tiling.with_row_block(block).unwrap().into()
}

/// The plan of a batch as the TPU kernel takes it.
pub fn mosaic_plan(spec: &AttentionSpec, tiling: Tiling, batch: &Batch) -> Plan {
    Planner::new(spec.page_size(), batch.pool_pages, tiling)
        .unwrap()
        .with_sliding_window(spec.sliding_window())
        .with_gaps()
        .plan(batch.total_tokens, &batch.groups())
        .unwrap()
}

/// A kernel text that is ready to run, with its operands.
pub struct MosaicAttention {
    emulator: Emulator,
    operands: Operands,
    shape: (usize, usize, usize, usize),
}

impl MosaicAttention {
    pub fn new<E: Element + emulator::Element>(
        spec: &AttentionSpec,
        plan: &Plan,
        tensors: &Tensors<E>,
    ) -> Self {
        let pool_pages = tensors.kv_pages.shape()[0];
        let text =
            kernels::attention_mosaic("attention", spec, &plan.tiling(), &plan.bucket(), pool_pages).unwrap();
        let emulator = Emulator::new(&text).unwrap_or_else(|e| panic!("{e}"));
        Self::of_words(emulator, spec, plan.bucket(), plan.meta(), tensors)
    }

    /// With a text and planner's words of the caller's.
    pub fn of_words<E: Element + emulator::Element>(
        emulator: Emulator,
        spec: &AttentionSpec,
        bucket: Bucket,
        meta: &[i32],
        tensors: &Tensors<E>,
    ) -> Self {
        let (tokens, group, kv_heads, dim) =
            (bucket.tokens, spec.group_size(), spec.kv_heads(), spec.head_dim());
        let behind = layout::HEADER + layout::ROW_SECTIONS * tokens;
        let mut rows = Array2::<i32>::zeros((8, tokens * group));
        for section in 0..layout::ROW_SECTIONS {
            for token in 0..tokens {
                let word = meta[layout::HEADER + section * tokens + token];
                rows.slice_mut(s![section, token * group..(token + 1) * group]).fill(word);
            }
        }
        let q = tensors.q.clone().into_shape_with_order((tokens, kv_heads, group, dim)).unwrap();
        let q = q.permuted_axes([1, 0, 2, 3]).as_standard_layout().into_owned();
        let q = q.into_shape_with_order((kv_heads, tokens * group, dim)).unwrap();
        let slots = &meta[meta[layout::SLOTS] as usize..][..bucket.key_slots];
        let slot_order = |x: &Array3<E>| {
            let rows: Vec<_> = slots.iter().map(|&t| x.index_axis(Axis(0), t as usize)).collect();
            ndarray::stack(Axis(1), &rows).unwrap()
        };
        let new_kv: Array4<E> =
            ndarray::stack(Axis(0), &[slot_order(&tensors.k).view(), slot_order(&tensors.v).view()]).unwrap();
        let ints = |x: &[i32]| emulator::Tensor::new(&[x.len()], x.to_vec()).unwrap();
        let element = if spec.dtype() == DType::F32 { ElementType::F32 } else { ElementType::Bf16 };
        let operands = Operands::new()
            .input(ints(&meta[..layout::HEADER]))
            .input(ints(&meta[behind..]))
            .input(ints(&[tensors.first_page]))
            .input(emulator::Tensor::from_array(q.view()).unwrap())
            .input(emulator::Tensor::from_array(rows.view()).unwrap())
            .input(emulator::Tensor::from_array(tensors.kv_pages.view()).unwrap())
            .input(emulator::Tensor::from_array(new_kv.view()).unwrap())
            .output(element, &[kv_heads, tokens * group, dim]);
        MosaicAttention { emulator, operands, shape: (tokens, kv_heads, group, dim) }
    }

    pub fn run(&self, options: &RunOptions) -> (Array3<f32>, Outcome) {
        self.try_run(options).unwrap_or_else(|e| panic!("{e}"))
    }

    /// [`run`](Self::run) for kernels that may be wrong.
    pub fn try_run(&self, options: &RunOptions) -> emulator::Result<(Array3<f32>, Outcome)> {
        let outcome = self.emulator.run_with(&self.operands, options)?;
        let (tokens, kv_heads, group, dim) = self.shape;
        let out =
            Array4::from_shape_vec((kv_heads, tokens, group, dim), outcome.outputs[0].to_f32()).unwrap();
        let out = out.permuted_axes([1, 0, 2, 3]).as_standard_layout().into_owned();
        Ok((out.into_shape_with_order((tokens, kv_heads * group, dim)).unwrap(), outcome))
    }
}
