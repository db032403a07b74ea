use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::{progress, report};
use engine::{Service, jsonl};

/// Answers a file of requests; a summary goes to standard error.
pub(crate) fn run(service: &mut Service, requests: &Path, output: &Path) -> Result<()> {
    let input: Box<dyn BufRead> = if is_standard(requests) {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(requests).with_context(|| requests.display().to_string())?;
        Box::new(BufReader::new(file))
    };
    let output: Box<dyn Write> = if is_standard(output) {
        Box::new(io::stdout().lock())
    } else {
        let file = File::create(output).with_context(|| output.display().to_string())?;
        Box::new(BufWriter::new(file))
    };
    let start = Instant::now();
    let bar = progress::requests();
    let served = jsonl::serve(input, output, jsonl::MAX_LINE, |line| {
        let answer = service.answer(line);
        bar.inc(1);
        answer
    })
    .context("requests or responses")?;
    bar.finish_and_clear();
    eprintln!(
        "{} requests, {} of them refused: {:.2} s",
        served.requests,
        served.failures,
        start.elapsed().as_secs_f64()
    );
    eprintln!("{}", report::resources(service.scorer.engine()));
    Ok(())
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}
