//! Memory: buffers of elements with a record of what was written, and strided views of them.

mod buffer;
mod store;
mod view;

pub(crate) use buffer::{Buffer, Role, Words};
#[cfg(in_library)]
pub(crate) use store::Lent;
pub(crate) use store::Store;
pub(crate) use view::{Run, View, overlap};
