//! Memory: buffers of elements with a record of what was written, and strided views of them.

mod buffer;
mod view;

pub(crate) use buffer::{Buffer, Role, Words};
pub(crate) use view::{Run, View, overlap};
