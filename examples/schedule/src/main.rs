//! `cargo run --release -p schedule -- replay --workload W1 --device v6e`

mod args;
mod compare;
mod ratchet;
mod report;
mod report_plots;
mod shape;
mod table;
mod trace;
mod tune;
mod workload;

use anyhow::{Context as _, ensure};
use args::{Cli, Command, Export, Replay};
use clap::Parser as _;
use ndarray::ArrayView1;
use ndarray_npy::NpzWriter;
use tpu_rpa::schedule::compile_child;
use workload::Case;

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Compile => Ok(compile_child().context("the environment names no module")??),
        Command::Export(args) => export(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Module(args) => compare::module(&args),
        Command::Ratchet(args) => ratchet::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Replay(args) => replay(&args),
        Command::Report(args) => report::run(&args),
    }
}

fn replay(args: &Replay) -> anyhow::Result<()> {
    let compiler = compare::compiler(&args.run.source)?;
    let build = &args.run.shape.build;
    let device = build.device;
    ensure!(args.trace.is_none() || args.run.shape.workload.len() == 1, "--trace needs a single workload");
    for source in args.run.shape.workloads()? {
        let case = Case::new(&source.workload, build).with_context(|| source.name.clone())?;
        let kernel = &case.kernel;
        let schedule = compiler.schedule(kernel, device, &args.run.source.cache)?;
        let replay = schedule.replay(kernel.prefetch(), &device.dma_model(args.run.latency));
        let no_latency = schedule.replay(kernel.prefetch(), &device.dma_model(0.0));
        table::print(&source.name, device, &schedule, &replay, &no_latency, Some(&case));
        if let Some(path) = &args.trace {
            trace::write(path, &source.name, device, &schedule, &replay)?;
        }
    }
    Ok(())
}

fn export(args: &Export) -> anyhow::Result<()> {
    let several = args.shape.workload.len() > 1;
    for source in args.shape.workloads()? {
        let case = Case::new(&source.workload, &args.shape.build).with_context(|| source.name.clone())?;
        let kernel = case.kernel;
        let folder = if several { args.out.join(&source.name) } else { args.out.clone() };
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let module = folder.join("module.mlir");
        std::fs::write(&module, kernel.module()).with_context(|| module.display().to_string())?;
        let operands = folder.join("operands.npz");
        let file = std::fs::File::create(&operands).with_context(|| operands.display().to_string())?;
        let mut npz = NpzWriter::new(file);
        for (index, words) in kernel.prefetch().iter().enumerate() {
            npz.add_array(format!("arg{index}"), &ArrayView1::from(words))?;
        }
        npz.finish()?;
        println!("{}, {}", module.display(), operands.display());
    }
    Ok(())
}
