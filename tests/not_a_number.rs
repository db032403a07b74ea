//! A NaN never becomes a number, in any form of attention: it reaches every row that sees it, and where it reaches others they
//! are NaN too. Neither does a number that is far from others become 0.
#![cfg(all(feature = "emulator", feature = "runtime"))]

use common::device::DeviceElement;
use common::mosaic::{MosaicAttention, mosaic_plan, row_block_tiling};
use common::{Batch, Element, GroupShape, Random, Tensors, batches_with_gaps, cases, property, specs};
use half::bf16;
use ndarray::{Array3, Axis, s};
use proptest::prelude::*;
use tpu_rpa::batch::Tiling;
use tpu_rpa::emulator::{self, RunOptions};
use tpu_rpa::reference::{self, relative_error};
use tpu_rpa::spec::{AttentionSpec, DType};

/// Attention of some tensors in one form.
type Form<'a, E> = Box<dyn Fn(&Tensors<E>) -> Array3<f32> + 'a>;

/// The portable form on the device, and the Mosaic text with one row block and with several. All take tensors of `rows` rows.
fn forms<'a, E: DeviceElement + emulator::Element>(
    spec: &'a AttentionSpec,
    batch: &Batch,
) -> Vec<(&'static str, usize, Form<'a, E>)> {
    let own_tile = 32usize;
    let kv_tile = 64usize.next_multiple_of(spec.page_size());
    let portable = Tiling::portable(32, kv_tile, own_tile, spec.page_size()).unwrap();
    let plan = common::device::plan(spec, portable, batch);
    let rows = plan.bucket().tokens;
    let run = move |tensors: &Tensors<E>| {
        common::device::attention(spec, &plan, tensors).mapv(|x| Into::<f32>::into(x))
    };
    let mut forms: Vec<(_, _, Form<'a, E>)> = vec![("portable", rows, Box::new(run))];
    for (name, blocks) in [("Mosaic", 1), ("Mosaic, row blocks", 2)] {
        let plan = mosaic_plan(spec, row_block_tiling(spec, kv_tile, own_tile, blocks), batch);
        let rows = plan.bucket().tokens;
        let run = move |tensors: &Tensors<E>| {
            MosaicAttention::new(spec, &plan, tensors).run(&RunOptions::default()).0
        };
        forms.push((name, rows, Box::new(run)));
    }
    forms
}

/// Where a value is put that is no number.
#[derive(Clone, Copy, Debug)]
struct Poison {
    /// Of queries, new keys, new values, keys in pages, values in pages.
    tensor: usize,
    value: f32,
    /// Chooses the place.
    seed: u64,
}

fn poisons() -> impl Strategy<Value = Poison> {
    let values = prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    (0..5usize, values, any::<u64>()).prop_map(|(tensor, value, seed)| Poison { tensor, value, seed })
}

impl Poison {
    /// Puts it into an element, or into all of a token's, of one head.
    fn put<E: Element>(self, batch: &Batch, tensors: &mut Tensors<E>) {
        let Poison { mut tensor, value, seed } = self;
        let mut random = Random::new(seed);
        let used: Vec<(usize, usize)> =
            batch.used_slots().into_iter().enumerate().filter(|p| p.1 > 0).collect();
        if used.is_empty() {
            tensor %= 3;
        }
        let row = random.below(batch.total_tokens);
        let mut place = match tensor {
            0 => tensors.q.index_axis_mut(Axis(0), row),
            1 => tensors.k.index_axis_mut(Axis(0), row),
            2 => tensors.v.index_axis_mut(Axis(0), row),
            _ => {
                let (page, slots) = used[random.below(used.len())];
                let page = tensors.first_page as usize + page;
                tensors.kv_pages.slice_mut(s![page, tensor - 3, .., random.below(slots), ..])
            }
        };
        let head = random.below(place.dim().0);
        let element = random.below(place.dim().1);
        if random.below(2) == 0 {
            place.row_mut(head).fill(E::from_f32(value));
        } else {
            place[[head, element]] = E::from_f32(value);
        }
    }
}

/// NaN wherever f64 has NaN. Elsewhere the number that f64 has, or NaN from what a form multiplies with 0: a value, in the TPU
/// form a key, of a tile that the row computes; and from infinities.
fn check<E: DeviceElement + emulator::Element>(
    spec: &AttentionSpec,
    batch: &Batch,
    poisons: &[Poison],
    seed: u64,
    bound: f64,
) -> Result<(), String> {
    for (name, rows, attention) in forms::<E>(spec, batch) {
        let clean = Tensors::<E>::random(spec, batch, rows, seed);
        let of_clean = reference::attention(spec, &clean.inputs(), &batch.groups());
        let size = of_clean.iter().fold(1.0, |size: f64, x| size.max(x.abs()));
        for poison in poisons {
            let mut tensors = clean.clone();
            poison.put(batch, &mut tensors);
            let found = attention(&tensors);
            let exact = reference::attention(spec, &tensors.inputs(), &batch.groups());
            let (key, value) = (matches!(poison.tensor, 1 | 3), matches!(poison.tensor, 2 | 4));
            let spreads = value || key && name != "portable" || poison.value.is_infinite();
            for ((at, &found), &exact) in found.indexed_iter().zip(&exact) {
                let right = match found.is_nan() {
                    true => exact.is_nan() || spreads,
                    false => (f64::from(found) - exact).abs() <= bound * size || f64::from(found) == exact,
                };
                if !right {
                    return Err(format!("{name}: {poison:?}: {found} at {at:?}, f64 has {exact}"));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn nan_stays_nan() {
    let strategy = || {
        specs().prop_flat_map(|spec| {
            let page_size = spec.page_size();
            (Just(spec), batches_with_gaps(page_size), prop::collection::vec(poisons(), 6), any::<u64>())
        })
    };
    property(cases(8), 4, strategy, |(spec, batch, poisons, seed)| {
        let size = common::score_size(&spec);
        match spec.dtype() {
            DType::F32 => check::<f32>(&spec, &batch, &poisons, seed, 2e-5 * size),
            _ => check::<bf16>(&spec, &batch, &poisons, seed, 0.05 * size),
        }
        .map_err(TestCaseError::fail)
    });
}

/// Scores of any size that f32 has: far below 0 and far above, a row's only one and many.
#[test]
fn scores_of_any_size_are_scores() {
    let shapes = [
        GroupShape { prefix_len: 40, lead: true, segments: vec![30, 20, 1] },
        GroupShape { prefix_len: 0, lead: false, segments: vec![1, 1, 70] },
        GroupShape { prefix_len: 150, lead: false, segments: vec![3] },
    ];
    let batch = Batch::new(16, &shapes, 3);
    for dtype in [DType::F32, DType::Bf16] {
        for head_dim in [64, 256] {
            // Powers of two, whose products and sums are exact.
            for size in [10, 36, 54].map(|bits| 2f32.powi(bits)) {
                let spec = AttentionSpec::builder(4, 2, head_dim).page_size(16).dtype(dtype).build().unwrap();
                for sign in [1.0, -1.0] {
                    match dtype {
                        DType::F32 => far_from_zero::<f32>(&spec, &batch, size, sign),
                        _ => far_from_zero::<bf16>(&spec, &batch, size, sign),
                    }
                }
            }
        }
    }
}

/// All queries equal, all keys `sign` times that: every score is `sign` * `size`², and every row the mean of what it sees.
fn far_from_zero<E: DeviceElement + emulator::Element>(
    spec: &AttentionSpec,
    batch: &Batch,
    size: f32,
    sign: f32,
) {
    for (name, rows, attention) in forms::<E>(spec, batch) {
        let mut tensors = Tensors::<E>::random(spec, batch, rows, 5);
        let to =
            |x: &mut E, value: f32| *x = if Into::<f32>::into(*x).is_nan() { *x } else { E::from_f32(value) };
        tensors.q.iter_mut().for_each(|x| to(x, size));
        tensors.k.iter_mut().for_each(|x| to(x, sign * size));
        tensors.kv_pages.index_axis_mut(Axis(1), 0).iter_mut().for_each(|x| to(x, sign * size));
        let found = attention(&tensors);
        let exact = reference::attention(spec, &tensors.inputs(), &batch.groups());
        let apart = relative_error(found.view(), exact.view());
        let bound = if spec.dtype() == DType::F32 { 1e-5 } else { 0.02 };
        assert!(apart <= bound, "{name}, {spec:?}: scores of {sign} x {size:e}^2: {apart:e} apart");
    }
}
