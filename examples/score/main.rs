//! probe
#[path = "../engine/mod.rs"]
mod engine;
use engine::*;
use std::time::Instant;
use tpu_rpa::runtime::*;
use tpu_rpa::score::*;
use tpu_rpa::spec::DType;
fn mem() -> String {
    std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .filter(|l| l.starts_with("VmHWM") || l.starts_with("VmRSS"))
        .collect::<Vec<_>>()
        .join(" ")
}
fn main() {
    let dtype = if std::env::args().any(|a| a == "bf16") { DType::Bf16 } else { DType::F32 };
    let t = Instant::now();
    let plugin = Plugin::discover(&DiscoveryOptions::from_env()).unwrap();
    let client =
        Client::new(&plugin, ClientOptions::new().device_count(1).disk_cache(cache_folder().unwrap()))
            .unwrap();
    println!("client {:?} {}", t.elapsed(), mem());
    let mut file = ModelFile::open(&model_path()).unwrap();
    println!("open {:?}", t.elapsed());
    let tok = Tokenizer::read(&file).unwrap();
    println!("tokenizer {:?}", t.elapsed());
    let llama = Llama::load(client, &mut file, Options { dtype }, &mut |_, _| ()).unwrap();
    println!("loaded {:?} {}", t.elapsed(), mem());
    let g: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(std::env::var("GOLDEN").unwrap()).unwrap()).unwrap();
    let mut s = Scorer::new(llama).unwrap();
    let ids = |v: &serde_json::Value| {
        v.as_array().unwrap().iter().map(|x| x.as_i64().unwrap() as i32).collect::<Vec<i32>>()
    };
    for r in g["requests"].as_array().unwrap().iter().take(1) {
        let req = ScoreRequest {
            query: ids(&r["query"]["token_ids"]),
            items: r["items"].as_array().unwrap().iter().map(|i| ids(&i["token_ids"])).collect(),
            label_token_ids: r["labels"]
                .as_array()
                .unwrap()
                .iter()
                .map(|l| l["token_id"].as_i64().unwrap() as i32)
                .collect(),
            apply_softmax: true,
            item_first: r["item_first"].as_bool().unwrap(),
        };
        let t = Instant::now();
        let a = s.score(&req).unwrap();
        let t1 = t.elapsed();
        let t = Instant::now();
        let _b = s.score(&req).unwrap();
        let mut d = 0f64;
        for (i, l) in a.logprobs.iter().enumerate() {
            for (j, v) in l.iter().enumerate() {
                d = d.max((*v as f64 - r["expected"]["logprobs"][i][j].as_f64().unwrap()).abs());
            }
        }
        println!("{} {:.2e}  first {:?} second {:?} {}", r["id"], d, t1, t.elapsed(), mem());
    }
    let _ = tok;
    let req = ScoreRequest {
        query: (0..500).map(|i| 1000 + i * 7).collect(),
        items: (0..64).map(|i| (0..20).map(|j| 300 + i * 31 + j * 3).collect()).collect(),
        label_token_ids: vec![9805, 787],
        apply_softmax: true,
        item_first: false,
    };
    let base = s.score(&req).unwrap();
    for budget in [100, 300, 640, 1000] {
        s.set_token_budget(budget);
        let r = s.score(&req).unwrap();
        let d = r
            .logprobs
            .iter()
            .flatten()
            .zip(base.logprobs.iter().flatten())
            .map(|(a, b)| (a - b).abs())
            .fold(0f32, f32::max);
        println!("budget {budget}: {d:e} {}", mem());
    }
    s.set_token_budget(8192);
    for alg in [Algorithm::Packed] {
        s.set_algorithm(alg);
        for _ in 0..3 {
            let t = Instant::now();
            s.score(&req).unwrap();
            let e = t.elapsed().as_secs_f64();
            println!("{alg:?} {e:.2} s, {:.1} items/s {} {:?}", 64.0 / e, mem(), s.engine().cache_stats());
            if alg == Algorithm::Serial {
                break;
            }
        }
    }
}
