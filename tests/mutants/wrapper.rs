use ndarray::{Array2, Array3};
use tpu_rpa::batch::layout;
use tpu_rpa::emulator::{RunOptions, Tensor};
use tpu_rpa::kernels::{self, Function};
use tpu_rpa::reference::Rounding;
use tpu_rpa::spec::{AttentionSpec, LabelSet};

use crate::seeding::{Edit, Mutant, replace, seed};
use common::device::client;
use common::mosaic::{LabelCase, mosaic_plan, mosaic_tiling};
use common::tpu_function::TpuFunction;
use common::{Batch, Errors, GroupShape, Tensors};

pub fn mutants() -> Vec<Mutant> {
    [attention(), kv_write(), logprobs(), softmax()].into_iter().flatten().collect()
}

/// Seeds a function; `right` says whether its result is right.
fn seeded(
    kernel: &'static str,
    function: &Function,
    inputs: &[Tensor],
    edits: Vec<(&'static str, Edit)>,
    right: impl Fn(&Tensor) -> bool,
    check: &str,
) -> Vec<Mutant> {
    seed(kernel, "wrapper", function.text(), edits, |text| {
        let call = TpuFunction::new(text).map_err(|_| "row-major operands".to_owned())?;
        let run = call.run(client(), inputs, &RunOptions::default());
        let (result, _) = run.map_err(|_| "the function does not run".to_owned())?;
        if right(&result) { Ok(()) } else { Err(check.to_owned()) }
    })
}

fn ints(words: &[i32]) -> Tensor {
    Tensor::new(&[words.len()], words.to_vec()).unwrap()
}

fn attention() -> Vec<Mutant> {
    let spec = AttentionSpec::builder(4, 2, 64).page_size(16).build().unwrap();
    let shape = GroupShape { prefix_len: 40, lead: true, segments: vec![30, 9, 20] };
    let batch = Batch::new(16, &[shape], 2);
    let plan = mosaic_plan(&spec, mosaic_tiling(&spec, 64, 32), &batch);
    let t = plan.bucket().tokens;
    let tensors = Tensors::<f32>::random(&spec, &batch, t, 7);
    let pool_pages = tensors.pool_pages();
    let function =
        kernels::attention_tpu("attention", &spec, &plan.tiling(), &plan.bucket(), pool_pages).unwrap();
    let inputs = [
        Tensor::from_array(tensors.q.view()).unwrap(),
        Tensor::from_array(tensors.k.view()).unwrap(),
        Tensor::from_array(tensors.v.view()).unwrap(),
        Tensor::from_array(tensors.kv_pages.view()).unwrap(),
        ints(plan.meta()),
        Tensor::new(&[], vec![tensors.first_page]).unwrap(),
    ];
    let word = |at: usize| format!("stablehlo.slice %head [{at}:{}]", at + 1);
    let edits = vec![
        (
            "keys and values change places",
            replace("concatenate %k_one, %v_one", "concatenate %v_one, %k_one"),
        ),
        (
            "keys taken for values",
            replace("\"stablehlo.gather\"(%v, %slots)", "\"stablehlo.gather\"(%k, %slots)"),
        ),
        ("row words change places", replace("concatenate %flat0, %flat1,", "concatenate %flat1, %flat0,")),
        ("pages taken for the slot map", replace(word(layout::SLOTS), word(layout::PAGES))),
        (
            "the layer's first page is forgotten",
            Edit::Line(
                "%at = stablehlo.reshape".to_owned(),
                "  %at = stablehlo.constant dense<0> : tensor<1xi32>".to_owned(),
            ),
        ),
        (
            "query rows not sorted by head",
            replace(
                format!("reshape %q_heads : (tensor<2x{t}x2x64xf32>)"),
                format!("reshape %q_grouped : (tensor<{t}x2x2x64xf32>)"),
            ),
        ),
        (
            "query layout turned",
            replace(
                "dense<0> : tensor<1xindex>, dense<[2, 1, 0]>",
                "dense<0> : tensor<1xindex>, dense<[1, 2, 0]>",
            ),
        ),
    ];
    let right = |result: &Tensor| {
        let found = Array3::from_shape_vec(tensors.q.raw_dim(), result.to_f32()).unwrap();
        Errors::new(&spec, &batch, &tensors, &found, Rounding::F32).check(1e-6).is_ok()
    };
    seeded("attention", &function, &inputs, edits, right, "f64 reference")
}

fn kv_write() -> Vec<Mutant> {
    let case = crate::kv_write::case();
    let function = kernels::kv_write_tpu("kv_write", &case.spec, case.rows(), case.pool_pages()).unwrap();
    let inputs = [
        Tensor::from_array(case.k.view()).unwrap(),
        Tensor::from_array(case.v.view()).unwrap(),
        Tensor::from_array(case.pages.view()).unwrap(),
        ints(&case.chunk_table()),
        Tensor::new(&[], vec![case.first_page]).unwrap(),
    ];
    let edits = vec![
        ("keys and values change places", replace("concatenate %k, %v,", "concatenate %v, %k,")),
        ("values left out", replace("concatenate %k, %v,", "concatenate %k, %k,")),
        (
            "the layer's first page is forgotten",
            Edit::Line(
                "%at = stablehlo.reshape".to_owned(),
                "  %at = stablehlo.constant dense<0> : tensor<1xi32>".to_owned(),
            ),
        ),
        ("another operand is updated", replace("operand_index = 3,", "operand_index = 2,")),
        (
            "the pages are not updated in place",
            replace(
                ", output_operand_aliases = [#stablehlo.output_operand_alias<output_tuple_indices = [], operand_index = 3, operand_tuple_indices = []>]",
                "",
            ),
        ),
    ];
    seeded("kv_write", &function, &inputs, edits, |pages| case.is_expected(pages), "bits of the pages")
}

/// Inputs of a label function.
fn label_inputs(case: &LabelCase<f32>) -> [Tensor; 4] {
    [
        Tensor::from_array(case.hidden.view()).unwrap(),
        Tensor::from_array(case.lm_head.view()).unwrap(),
        ints(&case.rows),
        Tensor::from_array(case.ids.view()).unwrap(),
    ]
}

fn table(case: &LabelCase<f32>, result: &Tensor) -> Array2<f32> {
    Array2::from_shape_vec(case.ids.raw_dim(), result.to_f32()).unwrap()
}

/// 20 rows in a block of 128.
fn logprobs() -> Vec<Mutant> {
    let case = LabelCase::<f32>::new(20, 64, 500, LabelSet::PerRow(3), 2.0, 5);
    let function = kernels::label_logprobs_tpu("labels", &case.spec(), case.hidden.nrows(), 20).unwrap();
    let edits = vec![
        (
            "rows not gathered",
            Edit::Line(
                "%rows_wide = stablehlo.pad".to_owned(),
                "  %rows_wide = stablehlo.iota dim = 0 : tensor<128xi32>".to_owned(),
            ),
        ),
        ("rows behind the padding", replace("low = [0], high = [108]", "low = [108], high = [0]")),
        (
            "labels of one row for another",
            replace("low = [0, 0], high = [5, 108]", "low = [0, 1], high = [5, 107]"),
        ),
        ("labels one row late", replace("low = [0, 0], high = [5, 108]", "low = [1, 0], high = [4, 108]")),
        (
            "result one label late",
            replace("stablehlo.slice %found [0:3, 0:20]", "stablehlo.slice %found [1:4, 0:20]"),
        ),
        (
            "result one row late",
            replace("stablehlo.slice %found [0:3, 0:20]", "stablehlo.slice %found [0:3, 1:21]"),
        ),
    ];
    let right = |result: &Tensor| {
        let (error, plain) = case.logprob_errors(&table(&case, result));
        error <= 2.0 * plain + 5e-6
    };
    seeded("label_logprobs", &function, &label_inputs(&case), edits, right, "f64 reference")
}

fn softmax() -> Vec<Mutant> {
    let case = LabelCase::<f32>::new(20, 64, 500, LabelSet::PerRow(3), 2.0, 5);
    let function = kernels::label_softmax_tpu("labels", &case.spec(), case.hidden.nrows(), 20).unwrap();
    let edits = vec![
        (
            "label rows not gathered",
            Edit::Line(
                "%ids = stablehlo.pad".to_owned(),
                "  %ids = stablehlo.iota dim = 1 : tensor<3x128xi32>".to_owned(),
            ),
        ),
        ("rows behind the padding", replace("low = [0], high = [108]", "low = [108], high = [0]")),
        (
            "labels of one row for another",
            replace("low = [0, 0], high = [0, 108]", "low = [0, 1], high = [0, 107]"),
        ),
        (
            "result one label late",
            replace("stablehlo.slice %found [0:3, 0:20]", "stablehlo.slice %found [1:4, 0:20]"),
        ),
    ];
    let right = |result: &Tensor| {
        let (error, plain) = case.softmax_errors(&table(&case, result));
        error <= 2.0 * plain + 5e-6
    };
    seeded("label_softmax", &function, &label_inputs(&case), edits, right, "f64 reference")
}
