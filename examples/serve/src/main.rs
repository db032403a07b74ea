//! A scoring server: `/v1/score`, `/v1/models`, `/health`, `/metrics`, `/openapi.json`.
//!
//! ```text
//! cargo run --release -p serve -- --port 8000
//! ```

mod args;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use args::Args;
use engine::{Dispatcher, Llama, Service};
use serve::{App, Metrics, Model};
use tpu_rpa::score::Scorer;

fn main() -> ExitCode {
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(std::io::stderr);
    log.with_ansi(std::io::stderr().is_terminal()).init();
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", engine::one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let start = Instant::now();
    let setup = args.model.setup();
    let Service { mut scorer, tokenizer } = Service::open(&setup, &mut |_, _| ())?;
    scorer.set_token_budget(args.model.token_budget);
    scorer.set_prefix_reuse(!args.no_prefix_reuse);
    let name = args.served_model_name.clone().unwrap_or_else(|| setup.model_name());
    tracing::info!(model = name, seconds = start.elapsed().as_secs_f64(), "model loaded");

    let metrics = Arc::new(Metrics::new());
    let model = Model { name, tokenizer, vocabulary: scorer.limits().vocabulary };
    let on_pass = {
        let metrics = Arc::clone(&metrics);
        move |scorer: &Scorer<Llama>, report| {
            metrics.pass(scorer, report);
            metrics.programs(scorer.engine().cache_stats());
        }
    };
    let (dispatcher, device) = Dispatcher::start(scorer, args.queue, on_pass).context("device thread")?;
    let app = App::new(model, dispatcher, metrics, args.body_limits());

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .context("async runtime")?;
    runtime.block_on(async {
        let address = (args.host.as_str(), args.port);
        let listener = TcpListener::bind(address).await.with_context(|| format!("{address:?}"))?;
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        // The one line on standard output: where it can be reached.
        println!("listening on http://{}", listener.local_addr()?);
        serve::serve(listener, app, args.connection_limits(), async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            tracing::info!("shutting down: accepted requests are finished first");
        })
        .await;
        anyhow::Ok(())
    })?;
    // All that could hand it work is gone; it finishes what it has.
    drop(runtime);
    device.join().map_err(|_| anyhow::anyhow!("the device thread failed"))?;
    Ok(())
}
