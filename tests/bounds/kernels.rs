use proptest::prelude::*;
use tpu_rpa::batch::{Bucket, Group, Planner, Tiling, layout};
use tpu_rpa::kernels::{
    self, Function, Kernel, KernelError, LabelOutput, LabelSoftmaxTiling, LabelTiling, Target, TpuKind,
    Variant, VariantShape, Workload, WorkloadClass, stablehlo_function,
};
use tpu_rpa::spec::{AttentionSpec, DType, KvWriteSpec, LabelLogprobsSpec, LabelSet};

use crate::{MOST, edge, tells};

/// Every dimension is an index's, every tensor's bytes are counted by an `i64`.
fn check(function: Result<Function, KernelError>, sizes: &[usize]) -> Option<Function> {
    match function {
        Ok(function) => {
            for tensor in function.inputs().iter().chain(function.outputs()) {
                assert!(tensor.dims.iter().all(|&dim| (1..=MOST).contains(&(dim as u128))), "{tensor}");
                let bytes =
                    tensor.dims.iter().map(|&dim| dim as f64).product::<f64>() * tensor.dtype.size() as f64;
                assert!(bytes <= i64::MAX as f64, "{tensor}");
            }
            Some(function)
        }
        Err(error) => {
            assert!(matches!(error, KernelError::Shape { .. } | KernelError::TensorSize { .. }), "{error}");
            tells(&error, sizes);
            None
        }
    }
}

const LABELS: [LabelSet; 4] = [
    LabelSet::Shared(3),
    LabelSet::PerRow(2),
    LabelSet::Shared(1 << 30),
    LabelSet::PerRow(i32::MAX as usize),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn specs(heads in edge(), group in 1..9usize, head_dim in edge(), labels in edge(), tokens in edge()) {
        match KvWriteSpec::new(heads, head_dim, 16, DType::F32) {
            Ok(_) => prop_assert!(heads as u128 * head_dim as u128 <= MOST),
            Err(error) => tells(&error, &[heads, head_dim]),
        }
        match AttentionSpec::builder(heads.saturating_mul(group), heads, 128).build() {
            Ok(spec) => {
                prop_assert!(spec.q_heads() as u128 * 128 <= MOST);
                for tiling in [Tiling::tpu(1024, 1 << 16, 32, 16).unwrap().into(), Target::Portable.tiling(16).unwrap()] {
                    // The results' share alone.
                    let least = heads as u128 * (tiling.q_tile() * group) as u128 * 4 * 128;
                    prop_assert!(kernels::attention_vmem(&spec, &tiling) as u128 >= least.min(usize::MAX as u128));
                }
                for class in WorkloadClass::ALL {
                    kernels::tuned_tiling(TpuKind::V6e, &spec, class).unwrap();
                }
            }
            Err(error) => tells(&error, &[heads, heads.saturating_mul(group)]),
        }
        for set in [LabelSet::Shared(labels), LabelSet::PerRow(labels)] {
            match LabelLogprobsSpec::new(head_dim, tokens, set, DType::F32) {
                Ok(_) => prop_assert!([head_dim, tokens, labels].iter().all(|&n| n > 0 && n as u128 <= MOST)),
                Err(error) => tells(&error, &[head_dim, tokens, labels]),
            }
        }
    }

    #[test]
    fn kv_writes(tokens in edge(), pool_pages in edge(), heads in 1..3usize) {
        let spec = KvWriteSpec::new(heads, 64, 16, DType::F32).unwrap();
        let sizes = [tokens, pool_pages];
        for name in ["portable", "tpu"] {
            let made = match name {
                "tpu" => kernels::kv_write_tpu(name, &spec, tokens, pool_pages),
                _ => kernels::kv_write(name, &spec, tokens, pool_pages),
            };
            if let Some(function) = check(made, &sizes) {
                prop_assert_eq!(&function.inputs()[0].dims, &[tokens, heads, 64]);
                prop_assert_eq!(function.inputs()[2].dims[0], pool_pages);
                let words = if name == "tpu" { 5 + 4 * tokens as u128 } else { 1 + tokens as u128 };
                prop_assert_eq!(function.inputs()[3].dims[0] as u128, words);
            }
        }
        if let Err(error) = kernels::kv_write_mosaic("m", &spec, tokens, pool_pages) {
            tells(&error, &sizes);
        }
    }

    #[test]
    fn labels(tokens in edge(), rows in edge(), wide in prop_oneof![Just((64, 100)), Just((4096, 1 << 20)), Just((i32::MAX as usize, i32::MAX as usize))], set in 0..LABELS.len()) {
        let set = LABELS[set];
        let spec = LabelLogprobsSpec::new(wide.0, wide.1, set, DType::F32).unwrap();
        let sizes = [tokens, rows, set.len(), wide.0];
        for made in [Kernel::label_logprobs(&spec, tokens, rows), Kernel::label_softmax(&spec, tokens, rows)] {
            match made {
                Ok(_) => prop_assert!([tokens, rows].iter().all(|&n| n > 0 && n as u128 <= MOST)),
                Err(error) => tells(&error, &sizes),
            }
        }
        // By hand, where nothing was checked before.
        let by_hand = [
            Kernel::LabelLogprobs { spec: spec.clone(), tokens, rows },
            Kernel::LabelSoftmax { spec: spec.clone(), tokens, rows },
        ];
        for (kernel, target) in by_hand.iter().flat_map(|kernel| [(kernel, Target::Portable), (kernel, Target::Tpu)]) {
            if let Some(function) = check(stablehlo_function("labels", kernel, target), &sizes) {
                prop_assert_eq!(&function.outputs()[0].dims, &[rows, set.len()]);
            }
        }
        for output in [LabelOutput::Logprobs, LabelOutput::Partials] {
            match LabelTiling::new(&spec, rows, output) {
                Ok(tiling) => padding(rows, tiling.padded_rows, tiling.row_block),
                Err(error) => tells(&error, &sizes),
            }
        }
        match LabelSoftmaxTiling::new(&spec, rows) {
            Ok(tiling) => padding(rows, tiling.padded_rows, tiling.row_block),
            Err(error) => tells(&error, &sizes),
        }
    }

    #[test]
    fn buckets_made_by_hand(sizes in prop::array::uniform4(edge()), pool_pages in edge(), good in any::<[bool; 5]>()) {
        // Some fields are those of a plan, so that the others are looked at.
        let spec = AttentionSpec::builder(16, 2, 64).build().unwrap();
        for tiling in [Tiling::tpu(32, 64, 32, 16).unwrap().into(), Tiling::portable(32, 64, 32, 16).unwrap()] {
            let groups = [Group { cu_seg_lens: &[0, 100], ..Group::default() }];
            let planned = Planner::new(16, 4, tiling).unwrap().plan(100, &groups).unwrap().bucket();
            let [tokens, meta_words, q_tile, key_slots] = sizes;
            let keep = |good: bool, planned, drawn| if good { planned } else { drawn };
            let bucket = Bucket {
                tokens: keep(good[0], planned.tokens, tokens),
                meta_words: keep(good[1], planned.meta_words, meta_words),
                q_tile: keep(good[2], planned.q_tile, q_tile),
                key_slots: keep(good[3], planned.key_slots, key_slots),
            };
            let pool_pages = keep(good[4], 4, pool_pages);
            let Bucket { tokens, meta_words, q_tile, key_slots } = bucket;
            let sizes = [tokens, meta_words, q_tile, key_slots, pool_pages];
            let target = Target::of(&tiling);
            let rows = (layout::HEADER + layout::ROW_SECTIONS * tokens.min(1 << 40)) as u128;
            for write in [false, true] {
                let spec = spec.clone();
                let kernel = if write {
                    Kernel::AttentionWrite { spec, tiling, bucket, pool_pages }
                } else {
                    Kernel::Attention { spec, tiling, bucket, pool_pages }
                };
                if check(stablehlo_function("attend", &kernel, target), &sizes).is_some() {
                    prop_assert!(tokens <= Planner::MAX_TOKENS && tokens.is_multiple_of(q_tile));
                    prop_assert!(q_tile <= 32 && q_tile.is_power_of_two());
                    prop_assert!((rows..MOST / 4 + 1).contains(&(meta_words as u128)));
                    prop_assert!(tokens as u128 + key_slots as u128 <= MOST);
                }
            }
            if let Some(function) = check(kernels::positions("positions", &bucket), &sizes) {
                prop_assert!(meta_words as u128 >= rows);
                prop_assert_eq!(&function.outputs()[0].dims, &[tokens]);
            }
        }
    }

    #[test]
    fn workloads(query in edge(), items in edge(), item_tokens in edge(), pool_pages in edge()) {
        let exact = query as u128 + items as u128 * item_tokens as u128;
        // What is valid and large takes its time.
        prop_assume!(exact < 5000 || exact > Planner::MAX_TOKENS as u128);
        prop_assume!(!(5000..=Planner::MAX_TOKENS).contains(&items));
        let workload = Workload { query, items, item_tokens, pool_pages };
        let spec = AttentionSpec::builder(16, 2, 64).build().unwrap();
        let variant = Variant { id: "made/up", shape: VariantShape::Attention(spec), workload, mosaic: false };
        match variant.kernel(Target::Portable) {
            Ok(Kernel::Attention { bucket, .. }) => {
                prop_assert!((1..=bucket.tokens as u128).contains(&exact) && bucket.tokens < 8000);
            }
            Ok(other) => prop_assert!(false, "{}", other),
            Err(error) => tells(&error, &[query, items, item_tokens, pool_pages, exact as usize]),
        }
    }
}

/// Whole blocks, and the fewest that hold the rows.
fn padding(rows: usize, padded: usize, block: usize) {
    assert!(
        padded >= rows && padded.is_multiple_of(block) && block.is_multiple_of(128),
        "{rows} {padded} {block}"
    );
    assert!(padded as u128 <= MOST && padded - rows < 128 * (padded / block), "{rows} {padded} {block}");
}
