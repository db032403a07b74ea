use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use tpu_rpa::batch::Tiling;
use tpu_rpa::schedule::DeviceKind;
use tpu_rpa::spec::DType;

/// What the TPU compiler makes of a kernel, and how long that program takes on a workload; needs libtpu, no TPU.
#[derive(Debug, Parser)]
#[command(name = "schedule")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compile for a workload, execute the scalar program of the schedule on its plan, and print where cycles go
    Replay(Replay),
    /// Replay, and write a page with roofs, a roofline plot, and how busy each region keeps the units
    Report(Report),
    /// Our kernels beside JAX's public ragged paged attention, on the same workloads with the same compiler
    Compare(Compare),
    /// Replay any module that calls one kernel, as `export` writes it
    Module(Module),
    /// Replay the cases of a table again, and fail where one became more than 2 % worse
    Ratchet(Ratchet),
    /// Search block sizes by compiling and replaying, and write the tables that clients choose from
    Tune(Tune),
    /// Write the kernel as a StableHLO module and its scalar-prefetch operands as operands.npz
    Export(Export),
    /// Compile the module that the environment names, for the other commands
    #[command(hide = true)]
    Compile,
}

#[derive(Debug, Args)]
pub(crate) struct Shape {
    /// W1, W1c, W2, W2g, W3, W4, W5, L1, or a JSON file as benches/workloads/README.md describes it; several are run one
    /// after the other
    #[arg(long, value_name = "NAME|FILE", required = true, value_delimiter = ',')]
    pub(crate) workload: Vec<String>,
    /// Query heads, KV heads and head size of attention, whatever the workload says
    #[arg(long, value_name = "Q/KVxDIM")]
    pub(crate) heads: Option<Heads>,
    /// Tokens of a page, whatever the workload says
    #[arg(long, value_name = "N")]
    pub(crate) page_size: Option<usize>,
    /// Element type, whatever the workload says: f32, bf16
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    pub(crate) dtype: Option<DType>,
    #[command(flatten)]
    pub(crate) build: Build,
}

/// What a kernel is built for.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Build {
    /// Device kind: v5e, v6e, v7x
    #[arg(long, value_name = "KIND", default_value = "v6e")]
    pub(crate) device: DeviceKind,
    /// Tile sizes of attention in tokens: queries, keys, keys of packed segments, and row blocks of a query tile where it
    /// has several; the default is what a client would choose from kernels/tables
    #[arg(long, value_name = "Q/KV/OWN[/BLOCK]")]
    pub(crate) tiles: Option<Tiles>,
    /// With --tiles, scale every score instead of the queries; the default is what suits the device's matrix units
    #[arg(long, value_name = "BOOL", requires = "tiles")]
    pub(crate) scaled_scores: Option<bool>,
}

fn dtype(s: &str) -> Result<DType, String> {
    let known = [DType::F32, DType::Bf16].into_iter().find(|dtype| dtype.mlir() == s);
    known.ok_or_else(|| "must be f32 or bf16".to_owned())
}

/// Where schedules come from.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// libtpu's shared object; the default is what `make aot` fetches
    #[arg(
        long,
        value_name = "FILE",
        env = "TPU_LIBRARY_PATH",
        default_value = ".tools/py-aot/libtpu/libtpu.so"
    )]
    pub(crate) libtpu: PathBuf,
    /// Where compiled schedules are kept, by content
    #[arg(long, value_name = "DIR", default_value = "target/schedule")]
    pub(crate) cache: PathBuf,
}

/// What is compiled and replayed, and how.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) shape: Shape,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Assumed time from a copy's last byte to its completion, in nanoseconds
    #[arg(long, value_name = "NS", default_value_t = 1000.0)]
    pub(crate) latency: f64,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) run: Run,
    /// Write the timeline for ui.perfetto.dev: regions, waits, units, and the HBM queue; needs a single workload
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    #[command(flatten)]
    pub(crate) run: Run,
    /// HTML file to write; it refers to no other file
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    pub(crate) run: Run,
    /// Python that has jax
    #[arg(long, value_name = "FILE", default_value = "python3", env = "JAX_PYTHON")]
    pub(crate) python: PathBuf,
    /// Block sizes to try of the public kernel; 0/0: those of its own table of tuned sizes
    #[arg(
        long,
        value_name = "PAGES/QUERIES",
        value_delimiter = ',',
        default_value = "0/0,4/64,8/8,8/64,16/32,16/128,16/256"
    )]
    pub(crate) blocks: Vec<Blocks>,
}

#[derive(Debug, Args)]
pub(crate) struct Module {
    /// StableHLO text
    #[arg(long, value_name = "FILE")]
    pub(crate) module: PathBuf,
    /// Scalar-prefetch operands `arg0`, `arg1`, … of i32
    #[arg(long, value_name = "FILE")]
    pub(crate) operands: PathBuf,
    /// Device kind: v5e, v6e, v7x
    #[arg(long, value_name = "KIND", default_value = "v6e")]
    pub(crate) device: DeviceKind,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Assumed time from a copy's last byte to its completion, in nanoseconds
    #[arg(long, value_name = "NS", default_value_t = 1000.0)]
    pub(crate) latency: f64,
}

/// Pages and queries of a block of JAX's ragged paged attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) pages: usize,
    pub(crate) queries: usize,
}

impl FromStr for Blocks {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let numbers = s.split_once('/').and_then(|(p, q)| Some((p.parse().ok()?, q.parse().ok()?)));
        let (pages, queries) = numbers.ok_or("must have the form PAGES/QUERIES with whole numbers")?;
        Ok(Blocks { pages, queries })
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pages == 0 {
            return f.write_str("its own");
        }
        write!(f, "{}/{}", self.pages, self.queries)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Ratchet {
    #[command(flatten)]
    pub(crate) source: Source,
    /// The table
    #[arg(long, value_name = "FILE", default_value = "kernels/replayed.toml")]
    pub(crate) table: PathBuf,
    /// Only the cases that it marks as fast
    #[arg(long, conflicts_with = "update")]
    pub(crate) fast: bool,
    /// Write what was found into the table
    #[arg(long)]
    pub(crate) update: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Tune {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Folder of the tables, `<device>.toml`
    #[arg(long, value_name = "DIR", default_value = "kernels/tables")]
    pub(crate) tables: PathBuf,
    /// Device kinds
    #[arg(long, value_name = "KIND", value_delimiter = ',', default_value = "v5e,v6e,v7x")]
    pub(crate) device: Vec<DeviceKind>,
    /// Compile nothing: hold the tables against the candidates and the rules of choice
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Folder to write into; a folder a workload if there are several
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

/// Heads and head size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(crate) q: usize,
    pub(crate) kv: usize,
    pub(crate) dim: usize,
}

impl FromStr for Heads {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let [q, kv, dim] = numbers(s, ['/', 'x'])?;
        Ok(Heads { q, kv, dim })
    }
}

impl fmt::Display for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}x{}", self.q, self.kv, self.dim)
    }
}

/// Tile sizes in tokens: query, key, slot tiles, and row blocks of a query tile where it has several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiles {
    pub(crate) q: usize,
    pub(crate) kv: usize,
    pub(crate) own: usize,
    pub(crate) block: Option<usize>,
}

impl Tiles {
    pub(crate) fn of(tiling: &Tiling) -> Self {
        let block = Some(tiling.row_block()).filter(|&block| block != tiling.q_tile());
        Tiles { q: tiling.q_tile(), kv: tiling.kv_tile(), own: tiling.own_tile(), block }
    }
}

impl fmt::Display for Tiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.q, self.kv, self.own)?;
        self.block.map_or(Ok(()), |block| write!(f, "/{block}"))
    }
}

impl FromStr for Tiles {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (sizes, block) = match s.match_indices('/').nth(2) {
            Some((at, _)) => (&s[..at], Some(s[at + 1..].parse().map_err(|_| "must end in a whole number")?)),
            None => (s, None),
        };
        let [q, kv, own] = numbers(sizes, ['/', '/'])?;
        Ok(Tiles { q, kv, own, block })
    }
}

fn numbers(s: &str, [first, second]: [char; 2]) -> Result<[usize; 3], String> {
    let form = || format!("must have the form A{first}B{second}C with whole numbers");
    let (a, rest) = s.split_once(first).ok_or_else(form)?;
    let (b, c) = rest.split_once(second).ok_or_else(form)?;
    let number = |n: &str| n.parse().map_err(|_| form());
    Ok([number(a)?, number(b)?, number(c)?])
}
