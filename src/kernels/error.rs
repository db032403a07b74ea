use super::target::Target;
use super::tensor_type::TensorType;

/// Why a kernel could not be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A shape parameter is zero or does not fit.
    #[error("{field} is {value}; it must be {bound}")]
    Shape {
        /// The field.
        field: &'static str,
        /// The value.
        value: usize,
        /// The bound.
        bound: String,
    },
    /// A tensor of the kernel is too large to be addressed.
    #[error("{what} is {tensor}; its size in bytes must be at most 9223372036854775807")]
    TensorSize {
        /// The tensor.
        what: &'static str,
        /// Its type.
        tensor: TensorType,
    },
    /// A plan's tiling is for another target.
    #[error("tiling is for the {tiling} target; {kernel} takes one for the {expected} target")]
    TilingTarget {
        /// The kernel.
        kernel: &'static str,
        /// Whose the tiling is.
        tiling: Target,
        /// Whose the kernel is.
        expected: Target,
    },
    /// A plan was made for another kernel.
    #[error("{field} of the plan is {}; that of the kernel is {}", or_none(.plan), or_none(.kernel))]
    OtherPlan {
        /// The field.
        field: &'static str,
        /// The plan's value, if it has one.
        plan: Option<usize>,
        /// The kernel's value, if it has one.
        kernel: Option<usize>,
    },
    /// A pool has fewer pages than the one that a plan was checked against.
    #[error(
        "pool_pages is {pool_pages}; it must be at least {plan_pool_pages}, the pages of the plan's pool"
    )]
    SmallPool {
        /// Pages of the pool.
        pool_pages: usize,
        /// Pages of the plan's pool.
        plan_pool_pages: usize,
    },
    /// A kernel that is made of others has a Mosaic text for each of them.
    #[error("{kernel} has several Mosaic texts, those of its parts")]
    SeveralTexts {
        /// The kernel.
        kernel: &'static str,
    },
    /// A call gives a function another number of operands than it takes.
    #[error("@{function} takes {expected} operands; {found} are given")]
    Operands {
        /// The function.
        function: String,
        /// Operands given.
        found: usize,
        /// Operands that it takes.
        expected: usize,
    },
    /// A name is no MLIR value.
    #[error(
        "value is {name:?}; it must be % and letters, digits and underscores, as an operand with a #number behind it if need be"
    )]
    Value {
        /// The name.
        name: String,
    },
    /// A batch that a kernel is declared for was refused.
    #[error(transparent)]
    Batch(#[from] crate::batch::BatchError),
    /// A function name is not an MLIR symbol of letters, digits and underscores.
    #[error("name is {name:?}; it must be letters, digits and underscores, not starting with a digit")]
    Name {
        /// The name asked for.
        name: String,
    },
    /// A function name that the module around the function, or the kernel itself, has a function for.
    #[error("name is {name:?}; it must be another: {owner} has a function of this name")]
    ReservedName {
        /// The name asked for.
        name: String,
        /// Who has it.
        owner: &'static str,
    },
    /// A template did not render.
    #[error("kernel {kernel} does not render: {reason}")]
    Template {
        /// The kernel.
        kernel: &'static str,
        /// The template engine's words.
        reason: String,
    },
    /// The rendered text is not well-formed.
    #[error("kernel {kernel} is not well-formed: {source}")]
    Verify {
        /// The kernel.
        kernel: &'static str,
        /// What is wrong, and where.
        source: super::VerifyError,
    },
}

fn or_none(value: &Option<usize>) -> String {
    value.map_or("none".to_owned(), |value| value.to_string())
}
