use base64::Engine as _;

use super::ScheduleError;
use crate::kernels::{Function, TensorType};

/// A TPU kernel alone: a StableHLO module whose `main` is one call of it, and the values of its scalar-prefetch
/// operands, which decide what its scalar program does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    name: String,
    module: String,
    prefetch: Vec<Vec<i32>>,
}

const CALL: &str = " = stablehlo.custom_call @tpu_custom_call(";

impl Kernel {
    /// A kernel of any origin: its name, a module whose `main` calls it on its own arguments, and its scalar-prefetch
    /// operands in order.
    pub fn new(name: &str, module: String, prefetch: Vec<Vec<i32>>) -> Self {
        Kernel { name: name.to_owned(), module, prefetch }
    }

    /// A Mosaic text alone. `inputs` are its operands in order, scalar-prefetch operands first, all row-major, and
    /// `prefetch` the values of those. It gets `vmem` bytes of VMEM: give it most of what there is, for XLA may place
    /// operands of the call in the rest.
    pub fn of_mosaic(
        name: &str,
        text: &str,
        inputs: &[TensorType],
        output: &TensorType,
        prefetch: Vec<Vec<i32>>,
        vmem: usize,
    ) -> Self {
        let body = base64::engine::general_purpose::STANDARD.encode(text);
        let layouts: Vec<_> = inputs.iter().map(row_major).collect();
        let attributes = format!(
            "backend_config = \"{{\\22custom_call_config\\22: {{\\22body\\22: \\22{body}\\22, \
             \\22needs_layout_passes\\22: true, \\22disable_bounds_checks\\22: true}}, \\22scoped_memory_configs\\22: [{{\\22memory_space\\22: 1, \
             \\22offset\\22: 0, \\22size\\22: {vmem}}}]}}\", kernel_name = \"{name}\", \
             operand_layouts = [{}], result_layouts = [{}]",
            layouts.join(", "),
            row_major(output)
        );
        let types: Vec<String> = inputs.iter().map(ToString::to_string).collect();
        let call = Call {
            operands: Vec::new(),
            attributes: &attributes,
            types: types.iter().map(String::as_str).collect(),
            result: &output.to_string(),
            prefetch: prefetch.len(),
            aliased: None,
        };
        Kernel { name: name.to_owned(), module: call.module(), prefetch }
    }

    /// Takes the kernel out of the function around it. `arguments` are values of the function's `i32` parameters by
    /// index; scalar-prefetch operands must be slices or reshapes of them.
    ///
    /// # Errors
    /// The function calls no kernel or several, or a scalar-prefetch operand is computed in another way.
    pub fn of_function(function: &Function, arguments: &[(usize, &[i32])]) -> Result<Self, ScheduleError> {
        let text = Text { function: function.name(), text: function.text() };
        let mut calls = text.text.lines().filter(|line| line.contains(CALL));
        let (Some(call), None) = (calls.next(), calls.next()) else {
            return Err(text.error("it must have one call of @tpu_custom_call"));
        };
        let call = Call::parse(&text, call)?;
        let prefetch = call.operands[..call.prefetch]
            .iter()
            .map(|name| text.value(name, arguments))
            .collect::<Result<_, _>>()?;
        Ok(Kernel { name: function.name().to_owned(), module: call.module(), prefetch })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The module, StableHLO text.
    pub fn module(&self) -> &str {
        &self.module
    }
    /// Values of the scalar-prefetch operands: the first operands of the call.
    pub fn prefetch(&self) -> &[Vec<i32>] {
        &self.prefetch
    }
}

fn row_major(tensor: &TensorType) -> String {
    let order: Vec<String> = (0..tensor.dims.len()).rev().map(|d| d.to_string()).collect();
    let list = if order.len() == 1 { order[0].clone() } else { format!("[{}]", order.join(", ")) };
    format!("dense<{list}> : tensor<{}xindex>", order.len())
}

struct Text<'a> {
    function: &'a str,
    text: &'a str,
}

impl<'a> Text<'a> {
    fn error(&self, reason: impl Into<String>) -> ScheduleError {
        ScheduleError::Function { function: self.function.to_owned(), reason: reason.into() }
    }

    /// The value called `name`, a parameter or cut out of one.
    fn value(&self, name: &str, arguments: &[(usize, &[i32])]) -> Result<Vec<i32>, ScheduleError> {
        if let Some(index) = self.parameter(name) {
            let found = arguments.iter().find(|(i, _)| *i == index);
            return found
                .map(|(_, words)| words.to_vec())
                .ok_or_else(|| self.error(format!("parameter {index} ({name}) has no given value")));
        }
        let definition = format!("{name} = stablehlo.");
        let unknown = || self.error(format!("operand {name} is no slice or reshape of a parameter"));
        let op =
            self.text.lines().find_map(|l| l.trim_start().strip_prefix(&definition)).ok_or_else(unknown)?;
        let source = op.split([' ', ',', ')']).find(|word| word.starts_with('%')).ok_or_else(unknown)?;
        let words = self.value(source, arguments)?;
        if op.starts_with("reshape ") {
            return Ok(words);
        }
        let bounds =
            op.strip_prefix("slice ").and_then(|rest| Some(rest.split_once('[')?.1.split_once(']')?.0));
        let (from, to) = bounds.and_then(|b| b.split_once(':')).ok_or_else(unknown)?;
        let (Ok(from), Ok(to)) = (from.trim().parse::<usize>(), to.trim().parse::<usize>()) else {
            return Err(unknown());
        };
        words.get(from..to).map(<[i32]>::to_vec).ok_or_else(|| {
            self.error(format!("{name} is words {from}..{to} of {source}, which has {}", words.len()))
        })
    }

    fn parameter(&self, name: &str) -> Option<usize> {
        let list = self.text.split_once('(')?.1;
        let list = &list[..list.find(") ->")?];
        list.match_indices('%')
            .position(|(at, _)| list[at..].strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))
    }
}

/// One line that calls a kernel.
struct Call<'a> {
    operands: Vec<&'a str>,
    attributes: &'a str,
    types: Vec<&'a str>,
    result: &'a str,
    /// Scalar-prefetch operands.
    prefetch: usize,
    /// Operand whose memory the result takes over.
    aliased: Option<usize>,
}

impl<'a> Call<'a> {
    fn parse(text: &Text<'a>, line: &'a str) -> Result<Self, ScheduleError> {
        let bad = |what: &str| text.error(format!("call of a kernel: {what}"));
        let (_, rest) = line.split_once(CALL).ok_or_else(|| bad("no operands"))?;
        let (operands, rest) = rest.split_once(") {").ok_or_else(|| bad("no attributes"))?;
        let (attributes, types) = rest.rsplit_once("} : (").ok_or_else(|| bad("no types"))?;
        let (types, result) = types.rsplit_once(") -> ").ok_or_else(|| bad("no result type"))?;
        let operands: Vec<_> = operands.split(", ").collect();
        let types: Vec<_> = types.split(", ").collect();
        if operands.len() != types.len() {
            return Err(bad("operands and types differ in number"));
        }
        let body = attributes.split_once("\\22body\\22: \\22").and_then(|(_, b)| b.split_once("\\22"));
        let body = body.ok_or_else(|| bad("no body"))?.0;
        let body = base64::engine::general_purpose::STANDARD.decode(body).map_err(|e| bad(&e.to_string()))?;
        let body = String::from_utf8_lossy(&body);
        let number = |text: &str, key: &str| {
            let (_, rest) = text.split_once(key)?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
        };
        let prefetch = number(&body, "scalar_prefetch = ").unwrap_or(0);
        if prefetch > operands.len() {
            return Err(bad("fewer operands than scalar_prefetch"));
        }
        let aliased = number(attributes, "operand_index = ");
        Ok(Call { operands, attributes, types, result, prefetch, aliased })
    }

    fn module(&self) -> String {
        let parameters = self.types.iter().enumerate().map(|(i, t)| {
            let alias = if self.aliased == Some(i) { " {tf.aliasing_output = 0 : i32}" } else { "" };
            format!("%arg{i}: {t}{alias}")
        });
        let arguments = (0..self.types.len()).map(|i| format!("%arg{i}"));
        let (attributes, types, result) = (self.attributes, self.types.join(", "), self.result);
        format!(
            "module @kernel {{\nfunc.func public @main({}) -> {result} {{\n  \
             %result = stablehlo.custom_call @tpu_custom_call({}) {{{attributes}}} : ({types}) -> {result}\n  \
             return %result : {result}\n}}\n}}\n",
            parameters.collect::<Vec<_>>().join(", "),
            arguments.collect::<Vec<_>>().join(", "),
        )
    }
}
