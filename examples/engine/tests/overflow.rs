//! A prompt at which the model overflows, in a pass with others: it is named, and they score as they do alone.

use common::gguf::{Gguf, tiny_llama};
use engine::{Llama, Service, Setup};
use tpu_rpa::score::{Finished, ScoreError, ScoreRequest, Scorer};
use tpu_rpa::spec::DType;

/// The token at which it does.
const OVERFLOWS: i32 = 50;

/// Only this token's embedding has an element 0, and the first layer's values multiply that by all that f32 can hold.
fn file() -> Gguf {
    let mut file = tiny_llama(1);
    file.replace("token_embd.weight", &[128, 128], |mut values| {
        for (token, row) in values.chunks_mut(128).enumerate() {
            row[0] = if token as i32 == OVERFLOWS { 8.0 } else { 0.0 };
        }
        values
    });
    file.replace("blk.0.attn_v.weight", &[64, 128], |mut values| {
        values[0] = f32::from_bits(0x7F7F_0000); // the greatest that bf16 has, too
        values
    });
    file
}

fn scorer() -> Scorer<Llama> {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("model.gguf");
    std::fs::write(&model, file().bytes()).expect("the file is written");
    let setup = Setup { model, plugin: None, dtype: DType::F32, cache: None, interpreted: None };
    Service::open(&setup, &mut |_, _| ()).unwrap_or_else(|error| panic!("{error}")).scorer
}

fn request(items: &[&[i32]]) -> ScoreRequest {
    ScoreRequest {
        query: (0..20).map(|i| (5 + 7 * i) % 49).collect(),
        items: items.iter().map(|item| item.to_vec()).collect(),
        label_token_ids: vec![1, 64, 127],
        ..ScoreRequest::default()
    }
}

/// One of four requests in a pass, which have one query: it is known from before, in pages, and computed anew.
#[test]
fn an_overflow_fails_its_item_alone() {
    let mut scorer = scorer();
    scorer.set_prefix_reuse(true);
    let requests = [
        request(&[&[7, 9], &[3, 2]]),
        request(&[&[26], &[3, 8], &[9, OVERFLOWS, 1], &[4]]),
        request(&[&[33; 40]]),
        request(&[&[12, 13, 14], &[15]]),
    ];
    let mut alone = Vec::new();
    for (at, request) in requests.iter().enumerate() {
        let mut request = request.clone();
        if at == 1 {
            request.items.remove(2);
        }
        alone.push(scorer.score(&request).expect("numbers").logprobs);
    }
    alone[1].insert(2, Vec::new());
    let tickets = requests.clone().map(|request| scorer.submit(request).expect("a valid request"));
    let first = scorer.run_pass();
    assert!(first.len() < 4, "nobody's answer suffers: the test tests nothing");
    let mut finished = first;
    while scorer.pending() > 0 {
        finished.extend(scorer.run_pass());
    }
    for Finished { ticket, result } in finished {
        let at = tickets.iter().position(|t| *t == ticket).expect("one of them");
        let found = match result {
            Ok(response) if at != 1 => response.logprobs,
            Err(ScoreError::NonFinite(found)) if at == 1 => {
                assert_eq!(found.items.iter().map(|item| item.item).collect::<Vec<_>>(), [2]);
                let words = found.to_string();
                assert!(words.contains("items[2], label 0, is NaN"), "{words}");
                found.others.logprobs
            }
            result => panic!("request {at}: {result:?}"),
        };
        for (item, (found, alone)) in found.iter().zip(&alone[at]).enumerate() {
            assert_eq!(found.len(), alone.len(), "request {at}, item {item}");
            for (a, b) in found.iter().zip(alone) {
                assert!((a - b).abs() < 1e-5, "request {at}, item {item}: {a}, alone {b}");
            }
        }
    }
}
