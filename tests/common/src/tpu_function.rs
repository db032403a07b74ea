//! Runs a kernel's StableHLO function for TPU without one: what is around the custom call on the PJRT device, the Mosaic
//! text that the call carries in the emulator.

use base64::Engine as _;
use half::bf16;
use tpu_rpa::emulator::{self, ElementType, Emulator, Operands, Outcome, RunOptions, Tensor};
use tpu_rpa::runtime::{self, Buffer, Client, CompileOptions};
use tpu_rpa::spec::DType;

/// A function cut at its custom call.
pub struct TpuFunction {
    before: String,
    behind: String,
    emulator: Emulator,
    result: (ElementType, Vec<usize>),
    alias: Option<usize>,
}

/// A part of a text that is not as every function for TPU has it.
fn missing(what: &str) -> String {
    format!("the function has no {what}")
}

/// What lies between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Result<&'a str, String> {
    let rest = text.split_once(from).ok_or_else(|| missing(from))?.1;
    Ok(rest.split_once(to).ok_or_else(|| missing(to))?.0)
}

/// `2x3xbf16` of `tensor<2x3xbf16>`.
fn tensor_type(text: &str) -> Result<(ElementType, Vec<usize>), String> {
    let inner = between(text.trim(), "tensor<", ">")?;
    let (dims, element) = inner.rsplit_once('x').ok_or_else(|| missing("dimensions"))?;
    let element = match element {
        "f32" => ElementType::F32,
        "bf16" => ElementType::Bf16,
        "i32" => ElementType::I32,
        other => return Err(format!("no element type {other}")),
    };
    let dims = dims.split('x').map(|d| d.parse().map_err(|_| missing("static dimensions")));
    Ok((element, dims.collect::<Result<_, String>>()?))
}

impl TpuFunction {
    /// Cuts `func.func private @name(...) -> ... { ... }`.
    pub fn new(text: &str) -> Result<Self, String> {
        let lines: Vec<&str> = text.trim().lines().collect();
        let call =
            lines.iter().position(|l| l.contains("@tpu_custom_call")).ok_or_else(|| missing("call"))?;
        let (signature, line) = (lines[0], lines[call]);
        let parameters = &signature[signature.find('(').ok_or_else(|| missing("parameters"))?..];
        let (parameters, output) = parameters.rsplit_once(" -> ").ok_or_else(|| missing("result type"))?;
        let value = line.split_once('=').ok_or_else(|| missing("result"))?.0.trim();
        let operands = between(line, "@tpu_custom_call(", ")")?;
        let (types, result) = line
            .rsplit_once(" : (")
            .and_then(|(_, types)| types.split_once(") -> "))
            .ok_or_else(|| missing("type of the call"))?;

        let shapes = types.split(", ").map(tensor_type).collect::<Result<Vec<_>, _>>()?;
        let layouts = between(line, "operand_layouts = [", "], result_layouts")?;
        row_major(layouts, &shapes)?;
        row_major(between(line, "result_layouts = [", "]}")?, &[tensor_type(result)?])?;
        let alias = match between(line, "operand_index = ", ",") {
            Ok(index) => Some(index.parse().map_err(|_| missing("operand index"))?),
            Err(_) => None,
        };
        let body = base64::engine::general_purpose::STANDARD
            .decode(between(line, r"\22body\22: \22", r"\22")?)
            .map_err(|e| e.to_string())?;
        let emulator =
            Emulator::new(&String::from_utf8(body).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;

        let prologue = lines[1..call].join("\n");
        let epilogue = lines[call + 1..].join("\n");
        Ok(TpuFunction {
            before: format!(
                "module @before {{\nfunc.func public @main{parameters} -> ({types}) {{\n{prologue}\n  return {operands} : {types}\n}}\n}}"
            ),
            behind: format!(
                "module @behind {{\nfunc.func public @main({value}: {result}) -> {output}\n{epilogue}\n}}"
            ),
            emulator,
            result: tensor_type(result)?,
            alias,
        })
    }

    /// Runs it on tensors in the order of its parameters.
    pub fn run(
        &self,
        client: &Client,
        inputs: &[Tensor],
        options: &RunOptions,
    ) -> Result<(Tensor, Outcome), String> {
        let mut operands = Operands::new();
        for tensor in execute(client, &self.before, inputs)? {
            operands = operands.input(tensor);
        }
        operands = operands.output(self.result.0, &self.result.1);
        if let Some(input) = self.alias {
            operands = operands.alias(input, 0);
        }
        let outcome = self.emulator.run_with(&operands, options).map_err(|e| e.to_string())?;
        let result = execute(client, &self.behind, &outcome.outputs)?.remove(0);
        Ok((result, outcome))
    }
}

/// The emulator's operands are row-major; so must be the call's.
fn row_major(layouts: &str, shapes: &[(ElementType, Vec<usize>)]) -> Result<(), String> {
    let found: Vec<String> = layouts
        .split("dense<")
        .skip(1)
        .filter_map(|l| Some(l.split_once('>')?.0.trim_matches(['[', ']']).to_owned()))
        .collect();
    let expected: Vec<String> = shapes
        .iter()
        .map(|(_, dims)| (0..dims.len()).rev().map(|d| d.to_string()).collect::<Vec<_>>().join(", "))
        .collect();
    if found == expected { Ok(()) } else { Err(format!("layouts are {found:?}, not {expected:?}")) }
}

/// Compiles and runs a module.
pub fn execute(client: &Client, module: &str, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let executable = client.compile(module, &CompileOptions::new()).map_err(|e| e.to_string())?;
    let buffers = inputs.iter().map(|t| upload(client, t)).collect::<Result<Vec<_>, _>>()?;
    let outputs = executable.run(&buffers.iter().collect::<Vec<_>>()).map_err(|e| e.to_string())?;
    outputs.iter().map(download).collect()
}

fn upload(client: &Client, tensor: &Tensor) -> Result<Buffer, String> {
    let dims = tensor.shape();
    match tensor.element_type() {
        ElementType::F32 => client.upload(tensor.as_slice::<f32>().unwrap(), dims),
        ElementType::Bf16 => client.upload(tensor.as_slice::<bf16>().unwrap(), dims),
        ElementType::I32 => client.upload(tensor.as_slice::<i32>().unwrap(), dims),
        other => return Err(format!("no upload of {other:?}")),
    }
    .map_err(|e| e.to_string())
}

fn download(buffer: &Buffer) -> Result<Tensor, String> {
    fn tensor<T: runtime::Element + emulator::Element>(buffer: &Buffer) -> Result<Tensor, String> {
        let values = buffer.to_vec::<T>().map_err(|e| e.to_string())?;
        Tensor::new(buffer.dims(), values).map_err(|e| e.to_string())
    }
    match buffer.dtype() {
        DType::F32 => tensor::<f32>(buffer),
        DType::Bf16 => tensor::<bf16>(buffer),
        DType::I32 => tensor::<i32>(buffer),
    }
}
