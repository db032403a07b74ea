use super::tensor::Tensor;
use super::types::ElementType;

/// What a kernel is called with: input tensors and the shapes of its results.
///
/// Inputs come in the order of the custom call: scalar-prefetch operands first. A result's shape cannot be read
/// off the text, which knows only its window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Operands {
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<(ElementType, Vec<usize>)>,
    pub(crate) aliases: Vec<(usize, usize)>,
    pub(crate) grid: Vec<i64>,
}

impl Operands {
    /// No operands yet.
    pub fn new() -> Self {
        Operands::default()
    }

    /// Adds an input.
    pub fn input(mut self, tensor: Tensor) -> Self {
        self.inputs.push(tensor);
        self
    }

    /// Adds a result.
    pub fn output(mut self, element: impl Into<ElementType>, shape: &[usize]) -> Self {
        self.outputs.push((element.into(), shape.to_vec()));
        self
    }

    /// Result `output` starts with the content of input `input` and shares its memory, as with
    /// `output_operand_aliases`. Both count from 0.
    pub fn alias(mut self, input: usize, output: usize) -> Self {
        self.aliases.push((input, output));
        self
    }

    /// Bounds of the grid dimensions whose bound in the text is dynamic, in order.
    pub fn dynamic_grid(mut self, bounds: &[i64]) -> Self {
        self.grid = bounds.to_vec();
        self
    }
}
