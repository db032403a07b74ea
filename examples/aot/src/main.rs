//! Compiles every declared Mosaic variant for every TPU topology, ahead of time and without a TPU, and writes the
//! executables with a manifest into a folder that the feature `aot` embeds.
//!
//! ```text
//! cargo run --release -p aot -- --libtpu …/libtpu.so --out target/aot
//! TPU_RPA_AOT=target/aot cargo build --release --features aot
//! ```
//!
//! Each compilation runs in a child process: a compiler that aborts takes down that child alone, and its last words
//! are reported with kernel, variant and topology.

mod child;
mod listing;
mod manifest;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use tpu_rpa::emulator::Emulator;
use tpu_rpa::kernels::{self, Function, Kernel, Target, TpuKind, Variant};
use tpu_rpa::runtime::Precompiled;

use child::{Compiler, Job};
use manifest::{Compiled, Manifest};

#[derive(Parser)]
struct Args {
    /// libtpu.so; else TPU_LIBRARY_PATH, else the one that `make aot` fetches into .tools.
    #[arg(long)]
    libtpu: Option<PathBuf>,
    /// Folder for the executables and their manifest.
    #[arg(long, default_value = "target/aot")]
    out: PathBuf,
    /// Only variants whose id contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Compile what the folder has, too.
    #[arg(long)]
    fresh: bool,
    /// Internal: be the child that does this job.
    #[arg(long, hide = true)]
    job: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.job {
        Some(job) => child::work(job),
        None => run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A variant's kernel on a kind of TPU and the function that its executable is compiled from.
pub(crate) struct Source {
    id: &'static str,
    kind: TpuKind,
    kernel: Kernel,
    function: Function,
}

impl Source {
    fn of(variant: &Variant, kind: TpuKind) -> Result<Self> {
        let kernel = variant.tpu_kernel(kind)?;
        let function = kernels::stablehlo_function(kernel.name(), &kernel, Target::Tpu)?;
        Ok(Source { id: variant.id, kind, kernel, function })
    }

    /// VMEM that its Mosaic text declares, in bytes.
    fn vmem(&self) -> Result<usize> {
        let text = self.kernel.mosaic_text(self.kernel.name())?;
        Ok(Emulator::new(&text)?.memory().vmem())
    }
}

pub(crate) fn sources(only: &str) -> Result<Vec<Source>> {
    let variants = kernels::variants()?.into_iter().filter(|v| v.mosaic && v.id.contains(only));
    variants
        .flat_map(|v| TpuKind::ALL.map(|kind| Source::of(&v, kind).with_context(|| v.id.to_owned())))
        .collect()
}

fn run(args: &Args) -> Result<()> {
    let compiler = Compiler::find(args.libtpu.as_deref())?;
    let sources = sources(&args.only)?;
    if sources.is_empty() {
        bail!("no declared Mosaic variant has {:?} in its id", args.only);
    }
    let out = std::path::absolute(&args.out)?;
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let mut manifest = Manifest::read(&out)?;
    let topologies = compiler.describe()?;
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    for source in &sources {
        let kind = source.kind;
        // Described in the order of `TpuKind::ALL`.
        let described = TpuKind::ALL.into_iter().zip(&topologies).find(|(k, _)| *k == kind);
        let (_, topology) = described.context("the compiler describes every kind")?;
        let hash = Precompiled::source_hash(&source.function.module());
        let known = manifest.find(source.id, kind.topology()).filter(|known| {
            !args.fresh
                && known.source == hash
                && known.compiler == topology.compiler
                && out.join(&known.file).is_file()
        });
        let compiled = match known {
            Some(known) => known.clone(),
            None => {
                eprintln!("compiling {} for {}", source.id, kind.topology());
                match compile(&compiler, source, topology, hash, &out) {
                    Ok(compiled) => compiled,
                    Err(error) => {
                        refused.push(format!("{} for {}: {error:#}", source.id, kind.topology()));
                        continue;
                    }
                }
            }
        };
        rows.push((source.vmem()?, compiled.clone()));
        manifest.put(compiled);
        manifest.write(&out)?;
    }
    manifest.keep_declared(&crate::sources("")?);
    manifest.write(&out)?;
    println!("{}", table::of(&rows, &topologies));
    println!("{} executables in {}", rows.len(), args.out.display());
    if refused.is_empty() {
        return Ok(());
    }
    Err(anyhow!("the compiler refused {}:\n{}", refused.len(), refused.join("\n")))
}

fn compile(
    compiler: &Compiler,
    source: &Source,
    topology: &child::Described,
    hash: String,
    out: &Path,
) -> Result<Compiled> {
    let kind = source.kind;
    let file = format!("{}-{kind}.pjrt", source.id.replace('/', "-"));
    let job = Job::Compile {
        variant: source.id.to_owned(),
        topology: kind.topology().to_owned(),
        file: out.join(&file),
    };
    std::fs::write(out.join(&file).with_extension("mlir"), source.function.module())?;
    let listings = tempfile::tempdir()?;
    let child::Timed { seconds } = compiler.ask(&job, Some(listings.path()))?;
    let listing = listing::read(listings.path())?;
    Ok(Compiled {
        variant: source.id.to_owned(),
        kernel: source.kernel.to_string(),
        topology: kind.topology().to_owned(),
        device_kind: topology.device_kind.clone(),
        compiler: topology.compiler.clone(),
        source: hash,
        bytes: std::fs::metadata(out.join(&file))?.len(),
        file,
        seconds,
        slots: listing.slots,
        spill_stores: listing.spill_stores,
        spill_loads: listing.spill_loads,
        vmem: listing.vmem,
    })
}
