//! Scores text with a real model: a built-in reranking request, or JSON Lines of `/v1/score` requests.
//!
//! ```text
//! cargo run --release -p score
//! cargo run --release -p score -- --requests requests.jsonl --output responses.jsonl
//! ```

mod args;
mod demo;
mod lines;
mod progress;
mod report;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;

use args::Args;
use engine::Service;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", engine::one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let bar = progress::tensors();
    let mut service = Service::open(&args.model.setup(), &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let load_time = start.elapsed();
    service.scorer.set_algorithm(args.algorithm.into());
    service.scorer.set_token_budget(args.model.token_budget);
    match &args.requests {
        None => demo::run(&mut service, load_time),
        Some(requests) => lines::run(&mut service, requests, &args.output),
    }
}
