//! An engine as the README describes it: layers in a loop, their KV pages stacked in one pool that is donated, attention and
//! KV write as one function, the layer's first page as its operand. It names no word of a plan, its results are the
//! reference's, and no compiler makes a copy of its pool.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::device::{client, interpreted_with};
use common::{Batch, GroupShape, Random, libtpu, normal};
use ndarray::{Array3, Array4, Array5, Axis, s};
use tpu_rpa::batch::{Group, KvSlots, Plan, Planner, Tiling};
use tpu_rpa::kernels::{Kernel, Target, TpuKind, WorkloadClass, stablehlo_function};
use tpu_rpa::reference::{self, AttentionInputs, relative_error};
use tpu_rpa::runtime::{Arg, Buffer, Client, CompileOptions, Executable, InterpretedTpu};
use tpu_rpa::spec::{AttentionSpec, DType};

/// What a layer does with the pool.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// The library's one function.
    Joined,
    /// Attention, then the write, called one after the other.
    Apart,
}

/// A toy model: every layer's queries are the results of the one before, its keys and values are given.
struct Engine {
    spec: AttentionSpec,
    layers: usize,
    /// Pages of a layer.
    pages: usize,
    target: Target,
    form: Form,
}

impl Engine {
    /// The program for plans of a bucket:
    /// `(x, keys, values, pool, meta, slots) -> (x, pool)`, keys and values `[layers, T, kv_heads, head_dim]`.
    fn program(&self, plan: &Plan) -> String {
        let pool_pages = self.layers * self.pages;
        let (spec, tiling, bucket) = (self.spec.clone(), plan.tiling(), plan.bucket());
        let function = |kernel: Kernel| stablehlo_function(kernel.name(), &kernel, self.target).unwrap();
        let joined = function(Kernel::AttentionWrite { spec: spec.clone(), tiling, bucket, pool_pages });
        let attention = function(Kernel::Attention { spec: spec.clone(), tiling, bucket, pool_pages });
        let kv_write = function(Kernel::KvWrite { spec: (&spec).into(), tokens: bucket.tokens, pool_pages });
        let [q, kv, _, pool, meta, slots, _] = joined.inputs() else { unreachable!() };
        let [tokens, kv_heads, head_dim] = kv.dims[..] else { unreachable!() };
        let element = kv.dtype;
        let stack = format!("tensor<{}x{tokens}x{kv_heads}x{head_dim}x{element}>", self.layers);
        let one = format!("tensor<1x{tokens}x{kv_heads}x{head_dim}x{element}>");
        let (functions, calls) = match self.form {
            Form::Joined => (
                joined.text().to_owned(),
                joined.call("%o", &["%x", "%k", "%v", "%pool", "%meta", "%slots", "%first_page"]).unwrap(),
            ),
            Form::Apart => (
                format!("{}\n{}", attention.text(), kv_write.text()),
                format!(
                    "%a = func.call @attention(%x, %k, %v, %pool, %meta, %first_page) : \
                     ({q}, {kv}, {kv}, {pool}, {meta}, tensor<i32>) -> {q}\n    \
                     %w = func.call @kv_write(%k, %v, %pool, %slots, %first_page) : \
                     ({kv}, {kv}, {pool}, {slots}, tensor<i32>) -> {pool}"
                ),
            ),
        };
        let (next_x, next_pool) = if self.form == Form::Joined { ("%o#0", "%o#1") } else { ("%a", "%w") };
        let layer_of = |name: &str, of: &str| {
            format!(
                "%{name}_1 = stablehlo.dynamic_slice %{of}, %layer, %c0, %c0, %c0, sizes = [1, {tokens}, {kv_heads}, {head_dim}] : ({stack}, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>) -> {one}\n    \
                 %{name} = stablehlo.reshape %{name}_1 : ({one}) -> {kv}"
            )
        };
        let (keys, values) = (layer_of("k", "keys"), layer_of("v", "values"));
        let (layers, pages) = (self.layers, self.pages);
        format!(
            "module @toy {{
{functions}
func.func public @main(%x0: {q}, %keys: {stack}, %values: {stack}, %pool0: {pool} {{tf.aliasing_output = 1 : i32}}, %meta: {meta}, %slots: {slots}) -> ({q}, {pool}) {{
  %c0 = stablehlo.constant dense<0> : tensor<i32>
  %c1 = stablehlo.constant dense<1> : tensor<i32>
  %layers = stablehlo.constant dense<{layers}> : tensor<i32>
  %layer_pages = stablehlo.constant dense<{pages}> : tensor<i32>
  %run:3 = stablehlo.while(%layer = %c0, %x = %x0, %pool = %pool0) : tensor<i32>, {q}, {pool}
  cond {{
    %more = stablehlo.compare LT, %layer, %layers : (tensor<i32>, tensor<i32>) -> tensor<i1>
    stablehlo.return %more : tensor<i1>
  }} do {{
    %first_page = stablehlo.multiply %layer, %layer_pages : tensor<i32>
    {keys}
    {values}
    {calls}
    %next = stablehlo.add %layer, %c1 : tensor<i32>
    stablehlo.return %next, {next_x}, {next_pool} : tensor<i32>, {q}, {pool}
  }}
  return %run#1, %run#2 : {q}, {pool}
}}
}}
"
        )
    }

    fn pool_dims(&self) -> [usize; 5] {
        let s = &self.spec;
        [self.layers * self.pages, 2, s.kv_heads(), s.page_size(), s.head_dim()]
    }
}

/// Queries of the first layer, keys and values of all.
struct Pass {
    plan: Plan,
    slots: KvSlots,
    x: Array3<f32>,
    keys: Array4<f32>,
    values: Array4<f32>,
}

impl Pass {
    fn new(
        engine: &Engine,
        planner: &mut Planner,
        groups: &[Group<'_>],
        slots: &[i32],
        random: &mut Random,
    ) -> Self {
        let plan = planner.plan(slots.len(), groups).unwrap();
        let slots = KvSlots::new(planner, &plan, slots).unwrap();
        let (rows, s) = (plan.bucket().tokens, &engine.spec);
        let x = normal((rows, s.q_heads(), s.head_dim()), random);
        let mut layers = || normal((engine.layers, rows, s.kv_heads(), s.head_dim()), random);
        let (keys, values) = (layers(), layers());
        Pass { plan, slots, x, keys, values }
    }

    fn run(&self, client: &Client, program: &Executable, pool: Buffer) -> (Vec<f32>, Buffer) {
        let upload = |values: &[f32], dims: &[usize]| client.upload(values, dims).unwrap();
        let words = |words: &[i32]| client.upload(words, &[words.len()]).unwrap();
        let inputs = [
            upload(self.x.as_slice().unwrap(), self.x.shape()),
            upload(self.keys.as_slice().unwrap(), self.keys.shape()),
            upload(self.values.as_slice().unwrap(), self.values.shape()),
            words(self.plan.meta()),
            match client.target() {
                Target::Portable => words(self.slots.words(&self.plan).unwrap()),
                Target::Tpu => words(&self.slots.chunk_table(&self.plan).unwrap()),
            },
        ];
        let [x, keys, values, meta, slots] = inputs.each_ref().map(Arg::Keep);
        let arguments = [x, keys, values, Arg::Donate(pool), meta, slots];
        let mut outputs = program.launch(arguments).unwrap().wait().unwrap();
        let pool = outputs.pop().unwrap();
        (outputs.pop().unwrap().to_vec().unwrap(), pool)
    }

    /// The same in f64 from one layer to the next, and by the reference's write.
    fn expected(&self, engine: &Engine, groups: &[Group<'_>], pool: &mut Array5<f32>) -> Array3<f64> {
        let mut x = self.x.clone();
        let mut out = Array3::zeros(x.raw_dim());
        for layer in 0..engine.layers {
            let (k, v) = (self.keys.index_axis(Axis(0), layer), self.values.index_axis(Axis(0), layer));
            let pages = layer * engine.pages..(layer + 1) * engine.pages;
            let mut pages = pool.slice_mut(s![pages, .., .., .., ..]);
            let inputs = AttentionInputs { q: x.view(), k, v, kv_pages: pages.view() };
            out = reference::attention(&engine.spec, &inputs, groups);
            reference::kv_write(k, v, self.slots.slots(), pages.view_mut());
            x = out.mapv(|x| x as f32);
        }
        out
    }
}

#[test]
fn layers_in_a_loop_give_what_the_reference_gives() {
    layers_in_a_loop(client());
}

/// The program of a TPU's user: two Mosaic kernels in a loop, and pages that are donated and written in place.
#[test]
fn so_they_do_on_an_interpreted_tpu() {
    let tpu = InterpretedTpu::new(TpuKind::V6e);
    layers_in_a_loop(&interpreted_with(tpu, 1));
}

fn layers_in_a_loop(client: &Client) {
    let spec = AttentionSpec::builder(4, 2, 64).page_size(16).build().unwrap();
    let engine = Engine { spec, layers: 3, pages: 12, target: client.target(), form: Form::Joined };
    let mut random = Random::new(3);
    let tiling = client.tiling(&engine.spec, WorkloadClass::Packed).unwrap();
    let mut planner = Planner::new(16, engine.pages, tiling).unwrap();
    let nan: Array5<f32> = Array5::from_elem(engine.pool_dims(), f32::NAN);
    let mut pool = client.upload(nan.as_slice().unwrap(), &engine.pool_dims()).unwrap();
    let mut expected_pool = nan;

    // A query of 40 tokens goes to pages 7, 2, 10; then three items on it, of which one is kept for later.
    let query = [Group { cu_seg_lens: &[0, 40], ..Group::default() }];
    let slots: Vec<i32> = (0..40).map(|t| [7, 2, 10][t as usize / 16] * 16 + t % 16).collect();
    let first = Pass::new(&engine, &mut planner, &query, &slots, &mut random);
    let offsets = [0, 5, 25, 32];
    let items = [Group { prefix_len: 40, pages: &[7, 2, 10], cu_seg_lens: &offsets, lead: false }];
    let kept: Vec<i32> = (0..32).map(|t| if t < 5 { 3 * 16 + t } else { -1 }).collect();
    let second = Pass::new(&engine, &mut planner, &items, &kept, &mut random);

    for (pass, groups) in [(&first, &query), (&second, &items)] {
        // One bucket of tokens may have two of words.
        let program = client.compile(&engine.program(&pass.plan), &CompileOptions::new()).unwrap();
        let (found, next) = pass.run(client, &program, pool);
        pool = next;
        let expected = pass.expected(&engine, groups, &mut expected_pool);
        let found = Array3::from_shape_vec(pass.x.raw_dim(), found).unwrap();
        let live = s![..pass.plan.num_tokens(), .., ..];
        let error = relative_error(found.slice(live), expected.slice(live));
        println!("error {error:e}");
        assert!(error <= 2e-6, "{error:e}");
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(bits(&pool.to_vec().unwrap()) == bits(expected_pool.as_slice().unwrap()), "pages");
    }
}

/// Time of a pass with one new token a sequence, and the temporary memory of its program.
fn cost(form: Form) -> (Duration, u64, u64) {
    let spec = AttentionSpec::builder(4, 2, 64).page_size(16).build().unwrap();
    let engine = Engine { spec, layers: 8, pages: 2048, target: Target::Portable, form };
    let mut planner = Planner::new(16, engine.pages, client().target().tiling(16).unwrap()).unwrap();
    let batch = Batch::new(16, &[GroupShape { prefix_len: 30, lead: false, segments: vec![1] }], 1);
    let pass = Pass::new(&engine, &mut planner, &batch.groups(), &[2047 * 16], &mut Random::new(1));
    let program = client().compile(&engine.program(&pass.plan), &CompileOptions::new()).unwrap();
    let dims = engine.pool_dims();
    let zeros = bytemuck::zeroed_vec::<f32>(dims.iter().product());
    let mut pool = client().upload(&zeros, &dims).unwrap();
    let times = (0..4).map(|_| {
        let start = Instant::now();
        let (_, next) = pass.run(
            client(),
            &program,
            std::mem::replace(&mut pool, client().upload(&[0f32], &[]).unwrap()),
        );
        pool = next;
        start.elapsed()
    });
    let least = times.min().unwrap();
    (least, program.memory_stats().unwrap().temp, 4 * zeros.len() as u64)
}

#[test]
fn a_pool_of_256_mib_is_written_in_place() {
    let (joined, temp, pool) = cost(Form::Joined);
    let (apart, copied, _) = cost(Form::Apart);
    println!(
        "pool of {pool} bytes: {joined:?} a pass with {temp} bytes of temporaries; calls apart {apart:?}, {copied}"
    );
    assert!(pool == 256 << 20 && temp < pool / 16, "{temp} bytes of temporaries");
    // What the function is for: calls in the same order make a copy of the pool.
    assert!(copied >= pool, "calls apart need {copied} bytes: is the barrier still needed?");
    assert!(4 * joined < apart, "{joined:?} against {apart:?}");
}

const DUMP: &str = "TPU_RPA_TEST_DUMP";

/// Run as a child by the test below: a compiler reads its flags once a process.
#[test]
fn compile_for_a_tpu() {
    let Some(folder) = std::env::var_os(DUMP).map(PathBuf::from) else { return };
    let spec = AttentionSpec::builder(16, 8, 128).page_size(128).dtype(DType::Bf16).build().unwrap();
    let engine = Engine { spec, layers: 4, pages: 256, target: Target::Tpu, form: Form::Joined };
    let tiling: Tiling = Target::Tpu.tiling(128).unwrap();
    let mut planner = Planner::new(128, engine.pages, tiling).unwrap();
    let batch = Batch::new(128, &[GroupShape { prefix_len: 300, lead: false, segments: vec![20; 6] }], 1);
    let plan = planner.plan(batch.total_tokens, &batch.groups()).unwrap();
    let plugin = libtpu::libtpu().expect("the parent looked");
    let topology = plugin.topology("v6e:2x2").unwrap();
    topology.compile_aot(&engine.program(&plan), &CompileOptions::new()).unwrap();
    println!("{}", folder.display());
}

#[test]
fn the_tpu_compiler_makes_no_copy_of_the_pool() {
    if std::env::var_os(DUMP).is_some() || libtpu::path().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let flags = format!("--xla_dump_to={} --xla_dump_hlo_as_text=true", folder.path().display());
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "compile_for_a_tpu"])
        .env(DUMP, folder.path())
        .env("XLA_FLAGS", &flags)
        .env("TPU_SKIP_MDS_QUERY", "1")
        .env("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let hlo = optimized(folder.path());
    let pool = "bf16[1024,2,8,128,128]";
    let kernels = hlo.lines().filter(|line| line.contains("tpu_custom_call") && line.contains(pool)).count();
    assert_eq!(kernels, 2, "attention and write take the pool");
    let copies: Vec<&str> = hlo
        .lines()
        .filter(|line| {
            let Some((_, operation)) = line.split_once(" = ") else { return false };
            operation.contains(pool) && [" copy(", " copy-start("].iter().any(|op| operation.contains(op))
        })
        .collect();
    assert!(copies.is_empty(), "{copies:#?}");
}

/// The last HLO of a dump.
fn optimized(folder: &Path) -> String {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files
        .filter(|path| path.to_string_lossy().ends_with("after_optimizations.txt"))
        .max_by_key(|path| std::fs::metadata(path).unwrap().len());
    std::fs::read_to_string(file.expect("the compiler dumps its HLO")).unwrap()
}
