use proptest::prelude::*;
use tpu_rpa::batch::Tiling;
use tpu_rpa::spec::{AttentionSpec, DType};

/// Specs over every supported head dim, GQA ratio, tested page size and option.
pub fn specs() -> impl Strategy<Value = AttentionSpec> {
    (
        (1..=2usize, prop::sample::select(vec![1usize, 2, 3, 4, 7, 8])),
        prop::sample::select(AttentionSpec::HEAD_DIMS.to_vec()),
        page_sizes(),
        prop::sample::select(vec![DType::F32, DType::Bf16]),
        prop::option::of(0.05f32..0.5),
        prop::option::of(0.5f32..50.0),
        windows(),
    )
        .prop_map(|((kv_heads, ratio), head_dim, page_size, dtype, scale, cap, window)| {
            let mut builder = AttentionSpec::builder(kv_heads * ratio, kv_heads, head_dim)
                .page_size(page_size)
                .dtype(dtype);
            if let Some(scale) = scale {
                builder = builder.scale(scale);
            }
            if let Some(cap) = cap {
                builder = builder.soft_cap(cap);
            }
            if let Some(window) = window {
                builder = builder.sliding_window(window);
            }
            builder.build().expect("every drawn spec is valid")
        })
}

pub fn page_sizes() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![16usize, 64, 128])
}

/// Sliding windows, mostly none; some shorter than a segment, some longer than a batch.
pub fn windows() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![3 => Just(None), 1 => (1..=20u32).prop_map(Some), 1 => (1..=400u32).prop_map(Some)]
}

/// Query, key and own tile, small enough that small batches fill several tiles.
fn tile_sizes(page_size: usize) -> impl Strategy<Value = (usize, usize, usize)> {
    (3..=8u32, 3..=8u32, 0..=3usize).prop_map(move |(q, own, more)| {
        let own_tile = 1usize << own;
        (1 << q, own_tile.next_multiple_of(page_size) + more * page_size, own_tile)
    })
}

/// Portable tilings of such tiles.
pub fn tilings(page_size: usize) -> impl Strategy<Value = Tiling> {
    tile_sizes(page_size).prop_map(move |(q, kv, own)| {
        Tiling::portable(q, kv, own, page_size).expect("every drawn tiling is valid")
    })
}

/// [`tilings`], and those of TPU kernels with one row block and with several.
pub fn tilings_of_all_kinds(page_size: usize) -> impl Strategy<Value = Tiling> {
    (tile_sizes(page_size), 0..3usize, 1..=3u32).prop_map(move |((q, kv, own), kind, blocks)| {
        let tpu = Tiling::tpu(q, kv, own, page_size).expect("every drawn tiling is valid");
        match kind {
            0 => Tiling::portable(q, kv, own, page_size).expect("every drawn tiling is valid"),
            1 => tpu.into(),
            _ => tpu.with_row_block((q >> blocks).max(8)).expect("every drawn block is valid").into(),
        }
    })
}

/// Standard deviation of a score of N(0, 1) inputs, at least 1: what absolute errors of scores are measured in.
pub fn score_size(spec: &AttentionSpec) -> f64 {
    (f64::from(spec.scale()) * (spec.head_dim() as f64).sqrt()).max(1.0)
}
