//! KV-page write, label log-probs and label softmax on a real PJRT device, against the reference.
#![cfg(feature = "runtime")]

use common::device::{DeviceElement, client};
use common::{Random, normal};
use half::bf16;
use ndarray::{Array2, Array3, Array5, s};
use tpu_rpa::batch::{Group, KvSlots, Planner};
use tpu_rpa::kernels;
use tpu_rpa::reference::{self, Labels, absolute_error};
use tpu_rpa::runtime::{Arg, CompileOptions};
use tpu_rpa::spec::{KvWriteSpec, LabelLogprobsSpec, LabelSet};

/// Bits of a float, for comparisons that mean them.
fn bits<E: bytemuck::Pod>(values: &[E]) -> &[u8] {
    bytemuck::cast_slice(values)
}

fn kv_write_keeps_every_other_byte<E: DeviceElement>(seed: u64) {
    let mut random = Random::new(seed);
    let page_size = [16, 64, 128][random.below(3)];
    let (kv_heads, head_dim, pool_pages) =
        (1 + random.below(4), [64, 128][random.below(2)], 2 + random.below(6));
    let tokens = 1 + random.below(60);
    let planner_tiling = kernels::default_tiling(page_size).unwrap();
    let mut planner = Planner::new(page_size, pool_pages, planner_tiling).unwrap();
    let plan =
        planner.plan(tokens, &[Group { cu_seg_lens: &[0, tokens as i32], ..Group::default() }]).unwrap();
    let rows = plan.bucket().tokens;

    let mut all: Vec<i32> = (0..(pool_pages * page_size) as i32).collect();
    random.shuffle(&mut all);
    let slots: Vec<i32> = (0..tokens).map(|t| if random.below(4) == 0 { -1 } else { all[t] }).collect();
    let slots = KvSlots::new(&planner, &plan, &slots).unwrap();

    // NaN everywhere, with distinct payload bits where the element has room for them: all must survive.
    let k: Array3<E> = normal((rows, kv_heads, head_dim), &mut random);
    let v: Array3<E> = normal((rows, kv_heads, head_dim), &mut random);
    // The pool of several layers; the slots count from one's first page.
    let (before, behind) = (random.below(3), random.below(3));
    let stacked = before + pool_pages + behind;
    let mut pages: Array5<E> = normal((stacked, 2, kv_heads, page_size, head_dim), &mut random);
    pages.iter_mut().step_by(3).for_each(|x| *x = E::from_f32(f32::NAN));
    let mut expected = pages.clone();
    let layer = s![before..before + pool_pages, .., .., .., ..];
    reference::kv_write(k.view(), v.view(), slots.slots(), expected.slice_mut(layer));

    let spec = KvWriteSpec::new(kv_heads, head_dim, page_size, E::DTYPE).unwrap();
    let function = kernels::kv_write("kv_write", &spec, rows, stacked).unwrap();
    let upload = |a: &[E], dims: &[usize]| client().upload(a, dims).unwrap();
    let (k, v) = (upload(k.as_slice().unwrap(), k.shape()), upload(v.as_slice().unwrap(), v.shape()));
    let device_pages = upload(pages.as_slice().unwrap(), pages.shape());
    let device_slots = client().upload(slots.words(&plan).unwrap(), &[1 + rows]).unwrap();
    let executable = client().compile(&function.module(), &CompileOptions::new()).unwrap();
    let donated = device_pages.clone();
    let first_page = client().upload(&[before as i32], &[]).unwrap();
    let arguments = [
        Arg::Keep(&k),
        Arg::Keep(&v),
        Arg::Donate(device_pages),
        Arg::Keep(&device_slots),
        Arg::Keep(&first_page),
    ];
    let written = executable.launch(arguments).unwrap().wait().unwrap().remove(0);
    assert!(donated.is_deleted(), "the pool is updated in place");
    assert_eq!(bits(&written.to_vec::<E>().unwrap()), bits(expected.as_slice().unwrap()));
}

#[test]
fn kv_write_touches_nothing_outside_its_slots() {
    for seed in 0..6 {
        kv_write_keeps_every_other_byte::<f32>(seed);
        kv_write_keeps_every_other_byte::<bf16>(seed + 100);
    }
}

struct Case {
    tokens: usize,
    rows: usize,
    hidden: usize,
    vocab: usize,
    labels: LabelSet,
    /// Factor on hidden states: how peaked the distribution is.
    peak: f32,
}

/// Greatest absolute errors of log-probs and of softmax against f64.
fn label_errors<E: DeviceElement>(case: &Case, seed: u64) -> (f64, f64) {
    let mut random = Random::new(seed);
    let hidden: Array2<E> = normal((case.tokens, case.hidden), &mut random);
    let hidden = hidden.mapv(|x| E::from_f32(Into::<f32>::into(x) * case.peak));
    let lm_head: Array2<E> = normal((case.vocab, case.hidden), &mut random);
    let lm_head = lm_head.mapv(|x| E::from_f32(Into::<f32>::into(x) * (case.hidden as f32).powf(-0.5)));
    let rows: Vec<i32> = (0..case.rows).map(|_| random.below(case.tokens) as i32).collect();
    let n = case.labels.len();
    let ids = match case.labels {
        LabelSet::Shared(n) => n,
        LabelSet::PerRow(n) => n * case.rows,
    };
    let mut ids: Vec<i32> = (0..ids).map(|_| random.below(case.vocab) as i32).collect();
    // The corners: first and last id, and a duplicate.
    ids[0] = 0;
    ids[n - 1] = case.vocab as i32 - 1;
    if n > 2 {
        ids[1] = ids[0];
    }
    let per_row;
    let (labels, dims) = match case.labels {
        LabelSet::Shared(n) => (Labels::Shared(&ids), vec![n]),
        LabelSet::PerRow(n) => {
            per_row = Array2::from_shape_vec((case.rows, n), ids.clone()).unwrap();
            (Labels::PerRow(per_row.view()), vec![case.rows, n])
        }
    };
    let spec = LabelLogprobsSpec::new(case.hidden, case.vocab, case.labels, E::DTYPE).unwrap();
    let arguments = [
        client().upload(hidden.as_slice().unwrap(), hidden.shape()).unwrap(),
        client().upload(lm_head.as_slice().unwrap(), lm_head.shape()).unwrap(),
        client().upload(&rows, &[case.rows]).unwrap(),
        client().upload(&ids, &dims).unwrap(),
    ];
    let arguments: Vec<_> = arguments.iter().collect();
    let array = |values: Vec<f32>| Array2::from_shape_vec((case.rows, n), values).unwrap();

    let function = kernels::label_logprobs("label_logprobs", &spec, case.tokens, case.rows).unwrap();
    let executable = client().compile(&function.module(), &CompileOptions::new()).unwrap();
    if let Some(memory) = executable.memory_stats() {
        // One block of logits, its LM-head rows and what is made of them; never rows x vocabulary.
        let block = 2048.min(case.vocab);
        let bound =
            4 * (4 * case.rows * block + 3 * block * case.hidden + 4 * case.rows * (case.hidden + 2 * n));
        assert!(memory.temp <= bound as u64 + 65_536, "{} bytes of temporaries, bound {bound}", memory.temp);
    }
    let found = array(executable.run(&arguments).unwrap()[0].to_vec().unwrap());
    let exact = reference::label_logprobs(hidden.view(), &rows, lm_head.view(), labels);
    let logprobs = absolute_error(found.view(), exact.view());

    let function = kernels::label_softmax("label_softmax", &spec, case.tokens, case.rows).unwrap();
    let found = array(common::device::run(client(), &function, &arguments)[0].to_vec().unwrap());
    let exact = reference::label_softmax(hidden.view(), &rows, lm_head.view(), labels);
    (logprobs, absolute_error(found.view(), exact.view()))
}

#[test]
fn label_logprobs_agree_with_f64_for_any_vocabulary_size() {
    let cases = [
        (1, 1, 64, 1, LabelSet::Shared(1), 1.0),
        (40, 7, 64, 1000, LabelSet::Shared(5), 1.0),
        (40, 33, 128, 2047, LabelSet::PerRow(3), 4.0),
        (40, 33, 128, 2048, LabelSet::PerRow(3), 1.0),
        (64, 16, 96, 2049, LabelSet::Shared(16), 30.0),
        (64, 64, 576, 49_152, LabelSet::Shared(2), 3.0),
        (16, 5, 64, 151_936, LabelSet::PerRow(2), 3.0),
    ];
    for (i, (tokens, rows, hidden, vocab, labels, peak)) in cases.into_iter().enumerate() {
        let case = Case { tokens, rows, hidden, vocab, labels, peak };
        for (dtype, (logprobs, softmax)) in
            [("f32", label_errors::<f32>(&case, i as u64)), ("bf16", label_errors::<bf16>(&case, i as u64))]
        {
            // Sums of `hidden` products of size `peak`, in f32; bf16 inputs are widened, so the bound is the same.
            let bound = 1e-6 * f64::from(peak) * (hidden as f64).sqrt();
            assert!(
                logprobs <= bound,
                "{dtype} vocab {vocab}: log-probs off by {logprobs:e}, bound {bound:e}"
            );
            assert!(softmax <= bound, "{dtype} vocab {vocab}: softmax off by {softmax:e}, bound {bound:e}");
        }
    }
}
