//! Clients of an interpreted TPU: what a TPU's user calls, executed by the emulator within programs of a CPU plugin.
#![cfg(all(feature = "emulator", feature = "runtime"))]

use base64::Engine as _;
use common::device::{client, interpreted_with, older_clients};
use common::mosaic::LabelCase;
use common::{Batch, Errors, GroupShape, Tensors, score_size};
use ndarray::{Array2, Array3};
use tpu_rpa::batch::{Plan, Planner};
use tpu_rpa::emulator::{DmaPolicy, ReductionOrder, RunOptions};
use tpu_rpa::kernels::{Kernel, Target, TpuKind, WorkloadClass, stablehlo_function};
use tpu_rpa::reference::Rounding;
use tpu_rpa::runtime::{
    Arg, Buffer, Client, ClientOptions, CompileOptions, Executable, InterpretedTpu, RuntimeError,
};
use tpu_rpa::spec::{AttentionSpec, LabelSet};

fn interpreted(kind: TpuKind) -> Client {
    interpreted_with(InterpretedTpu::new(kind), 1)
}

/// Attention on a client, of a batch with every kind of tile.
struct Case {
    spec: AttentionSpec,
    batch: Batch,
    plan: Plan,
    tensors: Tensors<f32>,
}

impl Case {
    fn new(client: &Client, seed: u64) -> Self {
        let spec = AttentionSpec::builder(4, 2, 64).page_size(16).build().unwrap();
        let shapes = [
            GroupShape { prefix_len: 50, lead: true, segments: vec![40, 20, 1, 33] },
            GroupShape { prefix_len: 17, lead: false, segments: vec![3] },
        ];
        let batch = Batch::new(16, &shapes, seed);
        let tiling = client.tiling(&spec, WorkloadClass::Packed).unwrap();
        let mut planner = Planner::new(16, batch.pool_pages, tiling).unwrap();
        let plan = planner.plan(batch.total_tokens, &batch.groups()).unwrap();
        let tensors = Tensors::random(&spec, &batch, plan.bucket().tokens, seed);
        Case { spec, batch, plan, tensors }
    }

    fn kernel(&self) -> Kernel {
        Kernel::attention(&self.spec, &self.plan, self.tensors.pool_pages()).unwrap()
    }

    fn upload(&self, client: &Client, device: usize) -> Vec<Buffer> {
        let t = &self.tensors;
        let up = |values: &[f32], dims: &[usize]| client.upload_to(device, values, dims).unwrap();
        let words = |words: &[i32], dims: &[usize]| client.upload_to(device, words, dims).unwrap();
        vec![
            up(t.q.as_slice().unwrap(), t.q.shape()),
            up(t.k.as_slice().unwrap(), t.k.shape()),
            up(t.v.as_slice().unwrap(), t.v.shape()),
            up(t.kv_pages.as_slice().unwrap(), t.kv_pages.shape()),
            words(self.plan.meta(), &[self.plan.meta().len()]),
            words(&[t.first_page], &[]),
        ]
    }

    fn check(&self, found: &Buffer) {
        let found = Array3::from_shape_vec(self.tensors.q.raw_dim(), found.to_vec::<f32>().unwrap()).unwrap();
        let errors = Errors::new(&self.spec, &self.batch, &self.tensors, &found, Rounding::F32);
        errors.check(1e-6 * score_size(&self.spec)).unwrap_or_else(|e| panic!("{e}"));
    }

    fn run(&self, client: &Client, program: &Executable) -> Result<Buffer, RuntimeError> {
        let inputs = self.upload(client, 0);
        Ok(program.launch(inputs.iter().map(Arg::Keep))?.wait()?.remove(0))
    }
}

#[test]
fn every_kind_runs_its_own_kernels() {
    for kind in TpuKind::ALL {
        let client = interpreted(kind);
        assert!(client.is_tpu() && client.is_interpreted());
        assert_eq!(TpuKind::of_device(client.devices()[0].kind()), Some(kind));
        let case = Case::new(&client, 1);
        assert_eq!(Target::of(&case.plan.tiling()), Target::Tpu);
        let program = client.kernel(&case.kernel()).unwrap();
        case.check(&case.run(&client, &program).unwrap());

        let labels = LabelCase::<f32>::new(9, 64, 700, LabelSet::PerRow(3), 1.0, 2);
        let kernel = Kernel::label_logprobs(&labels.spec(), labels.hidden.nrows(), 9).unwrap();
        let program = client.kernel(&kernel).unwrap();
        let inputs = [
            client.upload(labels.hidden.as_slice().unwrap(), labels.hidden.shape()).unwrap(),
            client.upload(labels.lm_head.as_slice().unwrap(), labels.lm_head.shape()).unwrap(),
            client.upload(&labels.rows, &[9]).unwrap(),
            client.upload(labels.ids.as_slice().unwrap(), labels.ids.shape()).unwrap(),
        ];
        let found = program.run(&inputs.iter().collect::<Vec<_>>()).unwrap().remove(0).to_vec().unwrap();
        let (error, plain) = labels.logprob_errors(&Array2::from_shape_vec((9, 3), found).unwrap());
        assert!(error <= 2.0 * plain + 5e-6, "{kind}: {error:e}");
    }
    assert!(!client().is_interpreted() && !client().is_tpu());
}

/// Replicas on two devices, each with operands of its own, at once.
#[test]
fn two_devices() {
    let client = interpreted_with(InterpretedTpu::new(TpuKind::V6e), 2);
    assert_eq!(client.devices().len(), 2);
    let cases = [3, 3].map(|seed| Case::new(&client, seed));
    let module = stablehlo_function("attention", &cases[0].kernel(), Target::Tpu).unwrap().module();
    let program = client.compile(&module, &CompileOptions::new().num_replicas(2)).unwrap();
    let inputs: Vec<_> = cases.iter().enumerate().map(|(at, case)| case.upload(&client, at)).collect();
    let inputs: Vec<Vec<&Buffer>> = inputs.iter().map(|inputs| inputs.iter().collect()).collect();
    for (outputs, case) in program.run_sharded(&inputs).unwrap().iter().zip(&cases) {
        case.check(&outputs[0]);
    }
}

/// A program with the first kernel's text changed.
fn with_text(module: &str, edit: impl FnOnce(&str) -> String) -> String {
    const BODY: &str = r"\22body\22: \22";
    let (before, rest) = module.split_once(BODY).unwrap();
    let (body, behind) = rest.split_once('\\').unwrap();
    let base64 = base64::engine::general_purpose::STANDARD;
    let text = String::from_utf8(base64.decode(body).unwrap()).unwrap();
    let edited = edit(&text);
    assert_ne!(edited, text, "nothing was edited");
    format!("{before}{BODY}{}\\{behind}", base64.encode(edited))
}

/// What the emulator finds fails that execution, with kernel, line and op; the next one works.
#[test]
fn a_fault_fails_its_execution_alone() {
    let client = interpreted(TpuKind::V6e);
    let case = Case::new(&client, 4);
    let module = stablehlo_function("attend", &case.kernel(), Target::Tpu).unwrap().module();
    let good = client.compile(&module, &CompileOptions::new()).unwrap();
    let reads_outside = with_text(&module, |text| {
        text.replace("%b_page = arith.addi %b_id, %b_base", "%b_page = arith.addi %b_id, %pool")
    });
    let waits = with_text(&module, |text| {
        let lines = text.lines().filter(|line| !line.contains("tpu.wait_dma2"));
        lines.collect::<Vec<_>>().join("\n")
    });
    for (broken, words) in [(reads_outside, "out of bounds"), (waits, "DMA")] {
        let program = client.compile(&broken, &CompileOptions::new()).unwrap();
        let error = case.run(&client, &program).unwrap_err().to_string();
        for word in ["'tpu.", words] {
            assert!(error.contains(word), "{word} is not in: {error}");
        }
        let place = error.split_once("kernel attend: ").expect("the kernel").1;
        assert!(place.starts_with(|c: char| c.is_ascii_digit()), "no line: {error}");
        case.check(&case.run(&client, &good).unwrap());
    }
}

#[test]
fn what_cannot_be_interpreted_is_refused_by_name() {
    let client = interpreted(TpuKind::V7x);
    let case = Case::new(&client, 5);
    let module = stablehlo_function("attend", &case.kernel(), Target::Tpu).unwrap().module();
    let refused = |module: &str, words: &[&str]| {
        let error = client.compile(module, &CompileOptions::new()).unwrap_err().to_string();
        assert!(error.starts_with("the program cannot be interpreted: the custom call in line"), "{error}");
        for word in words {
            assert!(error.contains(word), "{word} is not in: {error}");
        }
    };
    refused(&with_text(&module, |text| text.replace("arith.addi", "arith.addj")), &["arith.addj"]);
    // More scratch than the device has memory.
    let vast = with_text(&module, |text| {
        let at = text.find("memref<4x2x2x").unwrap();
        let (before, behind) = text.split_at(at);
        let old = behind.split_once('>').unwrap().0;
        format!("{before}{behind}").replace(old, &old.replace("memref<4x", "memref<4096x"))
    });
    refused(&vast, &["attend", "VMEM", "v7x"]);
    refused(&module.replace(r"\22body\22", r"\22text\22"), &["body"]);
    refused(&with_text(&module, |_| "\u{0}".to_owned()), &["line"]);
    let turned = module.replacen("dense<[2, 1, 0]>", "dense<[1, 2, 0]>", 1);
    let error = client.compile(&turned, &CompileOptions::new()).unwrap_err().to_string();
    assert!(error.contains("operand_layouts of the custom call") && error.contains("row-major"), "{error}");
}

/// The client's policies are the emulator's.
#[test]
fn results_keep_their_bits_whatever_the_order_of_copies() {
    let run = |options: RunOptions| {
        let client = interpreted_with(InterpretedTpu::new(TpuKind::V6e).with_options(options), 1);
        let case = Case::new(&client, 6);
        let found = case.run(&client, &client.kernel(&case.kernel()).unwrap()).unwrap();
        case.check(&found);
        found.to_vec::<f32>().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    let plain = run(RunOptions::default());
    for dma in [DmaPolicy::OnWait, DmaPolicy::Random] {
        assert!(run(RunOptions::default().dma(dma).seed(7)) == plain, "{dma:?}");
    }
    assert!(run(RunOptions::default().sums(ReductionOrder::BalancedTree)) != plain, "sums in another order");
    let client = interpreted_with(
        InterpretedTpu::new(TpuKind::V6e).with_options(RunOptions::default().max_steps(10)),
        1,
    );
    let case = Case::new(&client, 6);
    let error = case.run(&client, &client.kernel(&case.kernel()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("10 steps") || error.contains("10 ops"), "{error}");
}

#[test]
fn older_plugins_stand_for_a_tpu_too() {
    for plugin in older_clients().iter().map(Client::plugin) {
        let options = ClientOptions::new().device_count(1).interpreted_tpu(InterpretedTpu::new(TpuKind::V5e));
        let client = Client::new(&plugin, options).unwrap();
        let case = Case::new(&client, 7);
        case.check(&case.run(&client, &client.kernel(&case.kernel()).unwrap()).unwrap());
    }
}
