use crate::spec::DType;

/// A host element type that crosses the device boundary: `f32`, [`half::bf16`] or `i32`. Sealed.
pub trait Element: bytemuck::Pod + Send + Sync + sealed::Sealed {
    /// The element type on the device.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}

impl Element for half::bf16 {
    const DTYPE: DType = DType::Bf16;
}

impl Element for i32 {
    const DTYPE: DType = DType::I32;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::bf16 {}
    impl Sealed for i32 {}
}
