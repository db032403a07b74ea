//! Prefix reuse on the real model: whatever a query shares with earlier ones, its scores keep their bits.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tpu_rpa::score::ScoreRequest;
use tpu_rpa::spec::DType;

use engine::{Service, Setup};

fn ids(rng: &mut StdRng, n: usize) -> Vec<i32> {
    (0..n).map(|_| rng.random_range(1000..40_000)).collect()
}

/// Scores that queries get while pages hold earlier ones, against scores with nothing kept; and the tokens that were
/// reused, which are whole queries or whole tiles of 512.
#[test]
fn a_shared_beginning_of_any_length_changes_no_bit() {
    let setup = Setup {
        model: engine::model_path(),
        plugin: None,
        dtype: DType::F32,
        cache: engine::cache_folder(),
        interpreted: None,
    };
    let mut service = Service::open(&setup, &mut |_, _| ()).unwrap_or_else(|error| panic!("{error}"));
    let tile = service.scorer.limits().tiling.kv_tile();
    assert_eq!(tile, 512, "the lengths below are for this tile");

    let rng = &mut StdRng::seed_from_u64(11);
    let first = ids(rng, 600);
    let beginning_with = |rng: &mut StdRng, shared: usize, length: usize| {
        let mut query = first[..shared].to_vec();
        query.extend(ids(rng, length - shared));
        query
    };
    // (query, tokens of it that are reused)
    let cases = [
        ("the first", first.clone(), 0),
        ("the same again", first.clone(), 600),
        ("300 tokens alike", beginning_with(rng, 300, 500), 0),
        ("its first 500", first[..500].to_vec(), 500),
        ("520 tokens alike", beginning_with(rng, 520, 640), 512),
        ("all of it and more", beginning_with(rng, 600, 660), 512),
    ];
    for (name, query, reused) in cases {
        let items: Vec<Vec<i32>> = (0..6).map(|i| ids(rng, 5 + i)).collect();
        let labels = ids(rng, 2);
        let request =
            ScoreRequest { query, items, label_token_ids: labels, apply_softmax: false, item_first: false };
        service.scorer.set_prefix_reuse(false);
        let alone = service.scorer.score(&request).unwrap_or_else(|error| panic!("{error}"));
        service.scorer.set_prefix_reuse(true);
        let before = service.scorer.prefix_stats().hit_tokens;
        let found = service.scorer.score(&request).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(service.scorer.prefix_stats().hit_tokens - before, reused, "{name}");
        let bits = |logprobs: &[Vec<f32>]| logprobs.iter().flatten().map(|l| l.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found.logprobs), bits(&alone.logprobs), "{name}");
    }
}
