//! The reference on poisoned tensors: it reads what a row sees and nothing else, and its same-precision
//! evaluations err as little as their roundings allow.

use common::{Batch, Element, Tensors, batches, specs};
use half::bf16;
use ndarray::s;
use proptest::prelude::*;
use tpu_rpa::reference::{Rounding, attention, attention_rounded, relative_error};
use tpu_rpa::spec::{AttentionSpec, DType};

fn cases() -> impl Strategy<Value = (AttentionSpec, Batch, u64)> {
    specs().prop_flat_map(|spec| {
        let page_size = spec.page_size();
        (Just(spec), batches(page_size), any::<u64>())
    })
}

fn check<E: Element>(spec: &AttentionSpec, batch: &Batch, seed: u64) {
    let tensors = Tensors::<E>::random(spec, batch, batch.total_tokens + 3, seed);
    let (inputs, groups) = (tensors.inputs(), batch.groups());
    let truth = attention(spec, &inputs, &groups);
    assert!(truth.iter().all(|x| x.is_finite()), "poison was read");
    assert!(truth.slice(s![batch.total_tokens.., .., ..]).iter().all(|&x| x == 0.0));

    let error = |rounding| {
        let rounded = attention_rounded(spec, &inputs, &groups, rounding);
        if rounding != Rounding::F32 {
            assert!(rounded.iter().all(|&x| bf16::from_f32(x).to_f32() == x), "{rounding:?} is not bf16");
        }
        relative_error(rounded.view(), truth.view())
    };
    // Half a unit in the last place of bf16 is 2^-8 of a value; rounded probabilities add as much of each term.
    for (rounding, bound) in
        [(Rounding::F32, 1e-4), (Rounding::Bf16Result, 0.00395), (Rounding::Bf16Operands, 0.03)]
    {
        let error = error(rounding);
        assert!(error < bound, "{rounding:?}: {error}");
    }

    // The first token of a group without prefix sees itself alone, whatever the precision.
    let f32_result = attention_rounded(spec, &inputs, &groups, Rounding::F32);
    for group in groups.iter().filter(|g| g.prefix_len == 0) {
        let row = group.cu_seg_lens[0] as usize;
        if *group.cu_seg_lens.last().unwrap() as usize == row {
            continue;
        }
        for head in 0..spec.q_heads() {
            let value = tensors.v.slice(s![row, head / spec.group_size(), ..]);
            assert!(f32_result.slice(s![row, head, ..]).iter().zip(value).all(|(&o, &v)| o == v.into()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn reads_only_what_rows_see((spec, batch, seed) in cases()) {
        match spec.dtype() {
            DType::Bf16 => check::<bf16>(&spec, &batch, seed),
            _ => check::<f32>(&spec, &batch, seed),
        }
    }
}
