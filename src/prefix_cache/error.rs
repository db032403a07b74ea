/// Why a cache cannot be made. The message names the field, the value and the bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}; it must be {bound}")]
pub struct PrefixError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: usize,
    /// The bound, as text.
    pub bound: &'static str,
}
