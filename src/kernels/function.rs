use super::tensor_type::TensorType;
use super::{KernelError, VerifyError};

/// Refuses what is no MLIR symbol of letters, digits and underscores.
pub(super) fn check_symbol(name: &str) -> Result<(), KernelError> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(());
    }
    Err(KernelError::Name { name: name.to_owned() })
}

/// Refuses a name that no function beside a module's `main` can have.
pub(super) fn check_name(name: &str) -> Result<(), KernelError> {
    check_symbol(name)?;
    match name {
        "main" => Err(KernelError::ReservedName { name: name.to_owned(), owner: "a module" }),
        _ => Ok(()),
    }
}

/// A kernel as a StableHLO function, ready to splice into a module or to compile alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    name: String,
    text: String,
    inputs: Vec<TensorType>,
    outputs: Vec<TensorType>,
    /// An input, and the output that may reuse its memory when it is donated.
    donates: Option<(usize, usize)>,
}

impl Function {
    pub(super) fn new(
        kernel: &'static str,
        name: &str,
        rendered: Result<String, minijinja::Error>,
        inputs: Vec<TensorType>,
        outputs: Vec<TensorType>,
        donates: Option<(usize, usize)>,
    ) -> Result<Self, KernelError> {
        check_name(name)?;
        let text = rendered
            .map_err(|e| KernelError::Template { kernel, reason: format!("{e:#}") })?
            .trim()
            .to_owned();
        let function = Function { name: name.to_owned(), text, inputs, outputs, donates };
        function.verify().map_err(|source| KernelError::Verify { kernel, source })?;
        Ok(function)
    }

    /// Checks the text, and that it has the promised signature, by verifying a module that calls it.
    fn verify(&self) -> Result<(), VerifyError> {
        super::verify::verify(&self.module())
    }

    /// Symbol name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// `func.func private @name(...) ...`, self-contained: splice it into a module and `func.call` it.
    pub fn text(&self) -> &str {
        &self.text
    }
    /// Parameter types, in order.
    pub fn inputs(&self) -> &[TensorType] {
        &self.inputs
    }
    /// Result types, in order.
    pub fn outputs(&self) -> &[TensorType] {
        &self.outputs
    }

    /// A module whose `main` is this function: what a standalone executable is compiled from.
    /// Where the function updates an input, that argument may be donated.
    pub fn module(&self) -> String {
        let list =
            |types: &[TensorType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let parameters = self.inputs.iter().enumerate().map(|(i, t)| {
            let alias = self
                .donates
                .filter(|(input, _)| *input == i)
                .map_or(String::new(), |(_, output)| format!(" {{tf.aliasing_output = {output} : i32}}"));
            format!("%arg{i}: {t}{alias}")
        });
        let arguments = (0..self.inputs.len()).map(|i| format!("%arg{i}"));
        let (name, text, outputs) = (&self.name, &self.text, list(&self.outputs));
        let (results, values, returned) = match self.outputs.len() {
            1 => ("%result".to_owned(), "%result".to_owned(), outputs.clone()),
            n => (
                format!("%result:{n}"),
                (0..n).map(|i| format!("%result#{i}")).collect::<Vec<_>>().join(", "),
                format!("({outputs})"),
            ),
        };
        format!(
            "module @{name}_module {{\n{text}\nfunc.func public @main({}) -> {returned} {{\n  \
             {results} = func.call @{name}({}) : ({}) -> {returned}\n  return {values} : {outputs}\n}}\n}}\n",
            parameters.collect::<Vec<_>>().join(", "),
            arguments.collect::<Vec<_>>().join(", "),
            list(&self.inputs),
        )
    }
}
