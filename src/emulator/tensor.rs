use super::error::{EmulatorError, Result};
use super::memory::Words;
use super::types::{ElementType, volume};
use half::bf16;
use ndarray::{ArrayD, ArrayView, Dimension, IxDyn};

/// An array at the kernel's boundary: an operand or a result, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

/// Rust types that a [`Tensor`] can hold.
pub trait Element: Copy + private::Sealed {
    /// The element type in kernel texts.
    const TYPE: ElementType;
}

use private::Data;

mod private {
    use half::bf16;

    #[derive(Clone, Debug, PartialEq)]
    pub enum Data {
        F32(Vec<f32>),
        Bf16(Vec<bf16>),
        I32(Vec<i32>),
        I16(Vec<i16>),
        I8(Vec<i8>),
    }

    pub trait Sealed: Sized {
        fn wrap(data: Vec<Self>) -> Data;
        fn slice(data: &Data) -> Option<&[Self]>;
    }
}

macro_rules! element {
    ($type:ty, $variant:ident) => {
        impl private::Sealed for $type {
            fn wrap(data: Vec<Self>) -> Data {
                Data::$variant(data)
            }
            fn slice(data: &Data) -> Option<&[Self]> {
                if let Data::$variant(d) = data { Some(d) } else { None }
            }
        }
        impl Element for $type {
            const TYPE: ElementType = ElementType::$variant;
        }
    };
}
element!(f32, F32);
element!(bf16, Bf16);
element!(i32, I32);
element!(i16, I16);
element!(i8, I8);

impl Tensor {
    /// A tensor of the given row-major elements.
    pub fn new<T: Element>(shape: &[usize], data: Vec<T>) -> Result<Tensor> {
        if shape.contains(&0) || volume(shape) != data.len() {
            let message = format!("{} elements do not fill shape {shape:?}", data.len());
            return Err(EmulatorError::Operands { message });
        }
        Ok(Tensor { shape: shape.to_vec(), data: T::wrap(data) })
    }

    /// A tensor of one repeated element.
    pub fn full<T: Element>(shape: &[usize], value: T) -> Result<Tensor> {
        Tensor::new(shape, vec![value; volume(shape)])
    }

    /// `bf16` elements rounded from `f32`, ties to even.
    pub fn bf16_from_f32(shape: &[usize], data: &[f32]) -> Result<Tensor> {
        Tensor::new(shape, data.iter().copied().map(bf16::from_f32).collect())
    }

    /// A copy of an array in any memory order.
    pub fn from_array<T: Element, D: Dimension>(array: ArrayView<'_, T, D>) -> Result<Tensor> {
        Tensor::new(array.shape(), array.iter().copied().collect())
    }

    /// Dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Element type.
    pub fn element_type(&self) -> ElementType {
        match self.data {
            Data::F32(_) => ElementType::F32,
            Data::Bf16(_) => ElementType::Bf16,
            Data::I32(_) => ElementType::I32,
            Data::I16(_) => ElementType::I16,
            Data::I8(_) => ElementType::I8,
        }
    }

    /// The elements in row-major order, if `T` is their type.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        T::slice(&self.data)
    }

    /// The elements as `f32`, whatever their type.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.data {
            Data::F32(d) => d.clone(),
            Data::Bf16(d) => d.iter().map(|x| x.to_f32()).collect(),
            Data::I32(d) => d.iter().map(|&x| x as f32).collect(),
            Data::I16(d) => d.iter().map(|&x| f32::from(x)).collect(),
            Data::I8(d) => d.iter().map(|&x| f32::from(x)).collect(),
        }
    }

    /// A copy as an array, if `T` is the element type.
    pub fn to_array<T: Element>(&self) -> Option<ArrayD<T>> {
        ArrayD::from_shape_vec(IxDyn(&self.shape), self.as_slice()?.to_vec()).ok()
    }

    /// First element at which two tensors of one type and shape differ in bits, by row-major index.
    pub fn first_difference(&self, other: &Tensor) -> Option<usize> {
        fn find<T, B: PartialEq>(a: &[T], b: &[T], bits: impl Fn(&T) -> B) -> Option<usize> {
            a.iter()
                .zip(b)
                .position(|(x, y)| bits(x) != bits(y))
                .or((a.len() != b.len()).then_some(a.len().min(b.len())))
        }
        match (&self.data, &other.data) {
            (Data::F32(a), Data::F32(b)) => find(a, b, |x| x.to_bits()),
            (Data::Bf16(a), Data::Bf16(b)) => find(a, b, |x| x.to_bits()),
            (Data::I32(a), Data::I32(b)) => find(a, b, |x| *x),
            (Data::I16(a), Data::I16(b)) => find(a, b, |x| *x),
            (Data::I8(a), Data::I8(b)) => find(a, b, |x| *x),
            _ => Some(0),
        }
    }

    pub(crate) fn to_words(&self) -> Words {
        match &self.data {
            Data::F32(d) => Words::W32(d.iter().map(|x| x.to_bits()).collect()),
            Data::Bf16(d) => Words::W16(d.iter().map(|x| x.to_bits()).collect()),
            Data::I32(d) => Words::W32(d.iter().map(|&x| x as u32).collect()),
            Data::I16(d) => Words::W16(d.iter().map(|&x| x as u16).collect()),
            Data::I8(d) => Words::W8(d.iter().map(|&x| x as u8).collect()),
        }
    }

    pub(crate) fn from_words(shape: &[usize], element: ElementType, words: &Words) -> Option<Tensor> {
        let data = match (element, words) {
            (ElementType::F32, Words::W32(w)) => Data::F32(w.iter().map(|&x| f32::from_bits(x)).collect()),
            (ElementType::Bf16, Words::W16(w)) => Data::Bf16(w.iter().map(|&x| bf16::from_bits(x)).collect()),
            (ElementType::I32, Words::W32(w)) => Data::I32(w.iter().map(|&x| x as i32).collect()),
            (ElementType::I16, Words::W16(w)) => Data::I16(w.iter().map(|&x| x as i16).collect()),
            (ElementType::I8, Words::W8(w)) => Data::I8(w.iter().map(|&x| x as i8).collect()),
            _ => return None,
        };
        Some(Tensor { shape: shape.to_vec(), data })
    }
}
