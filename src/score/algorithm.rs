/// How the items of a request are spread over forward passes. Scores do not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// As many items a pass as the token budget allows, the query computed once.
    #[default]
    Packed,
    /// One item a pass, the query computed again for each: what packing is compared with.
    Serial,
}
