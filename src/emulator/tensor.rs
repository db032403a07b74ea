use super::error::{EmulatorError, Result};
use super::memory::Words;
use super::types::{ElementType, volume};
use half::bf16;
use ndarray::{ArrayD, ArrayView, Dimension, IxDyn};

/// An array at the kernel's boundary: an operand or a result, row-major. Cheap to clone; equality is of bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    element: ElementType,
    words: Words,
}

/// Rust types that a [`Tensor`] can hold.
pub trait Element: private::Bits {
    /// The element type in kernel texts.
    const TYPE: ElementType;
}

mod private {
    use crate::emulator::memory::Words;

    /// Types that are stored as words of their width.
    pub trait Bits: bytemuck::Pod {
        #[expect(private_interfaces, reason = "the trait is sealed")]
        fn store(data: Vec<Self>) -> Words;
    }
}

macro_rules! element {
    ($type:ty, $variant:ident, $width:ident) => {
        impl private::Bits for $type {
            #[expect(private_interfaces, reason = "the trait is sealed")]
            fn store(data: Vec<Self>) -> Words {
                Words::$width(bytemuck::allocation::cast_vec(data).into())
            }
        }
        impl Element for $type {
            const TYPE: ElementType = ElementType::$variant;
        }
    };
}
element!(f32, F32, W32);
element!(bf16, Bf16, W16);
element!(i32, I32, W32);
element!(i16, I16, W16);
element!(i8, I8, W8);

impl Tensor {
    /// A tensor of the given row-major elements.
    pub fn new<T: Element>(shape: &[usize], data: Vec<T>) -> Result<Tensor> {
        let size = shape.iter().try_fold(1usize, |a, &d| a.checked_mul(d));
        if shape.contains(&0) || size != Some(data.len()) {
            let message = format!("{} elements do not fill shape {shape:?}", data.len());
            return Err(EmulatorError::Operands { message });
        }
        Ok(Tensor { shape: shape.to_vec(), element: T::TYPE, words: T::store(data) })
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
        self.element
    }

    /// The elements in row-major order, if `T` is their type.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        if T::TYPE != self.element {
            return None;
        }
        Some(match &self.words {
            Words::W8(w) => bytemuck::cast_slice(&w[..]),
            Words::W16(w) => bytemuck::cast_slice(&w[..]),
            Words::W32(w) => bytemuck::cast_slice(&w[..]),
            Words::Semaphores(_) => return None,
        })
    }

    /// The elements as `f32`, whatever their type.
    pub fn to_f32(&self) -> Vec<f32> {
        fn convert<T: Element>(t: &Tensor, f: impl Fn(T) -> f32) -> Vec<f32> {
            t.as_slice::<T>().unwrap_or_default().iter().map(|&x| f(x)).collect()
        }
        match self.element {
            ElementType::F32 => convert(self, |x: f32| x),
            ElementType::Bf16 => convert(self, bf16::to_f32),
            ElementType::I32 => convert(self, |x: i32| x as f32),
            ElementType::I16 => convert(self, |x: i16| f32::from(x)),
            ElementType::I8 => convert(self, |x: i8| f32::from(x)),
        }
    }

    /// A copy as an array, if `T` is the element type.
    pub fn to_array<T: Element>(&self) -> Option<ArrayD<T>> {
        ArrayD::from_shape_vec(IxDyn(&self.shape), self.as_slice()?.to_vec()).ok()
    }

    /// First element at which two tensors of one type and shape differ in bits, by row-major index. Tensors of
    /// different types or shapes differ from the start.
    pub fn first_difference(&self, other: &Tensor) -> Option<usize> {
        fn find<T: PartialEq>(a: &[T], b: &[T]) -> Option<usize> {
            a.iter().zip(b).position(|(x, y)| x != y)
        }
        if self.element != other.element || self.shape != other.shape {
            return Some(0);
        }
        match (&self.words, &other.words) {
            (Words::W8(a), Words::W8(b)) => find(a, b),
            (Words::W16(a), Words::W16(b)) => find(a, b),
            (Words::W32(a), Words::W32(b)) => find(a, b),
            _ => Some(0),
        }
    }

    pub(crate) fn words(&self) -> Words {
        self.words.clone()
    }

    /// The words, of a tensor that is not read any more.
    pub(crate) fn take_words(&mut self) -> Words {
        std::mem::replace(&mut self.words, Words::Semaphores(Vec::new()))
    }

    /// A tensor of words that have the width of the element type.
    pub(crate) fn from_words(shape: &[usize], element: ElementType, words: Words) -> Tensor {
        Tensor { shape: shape.to_vec(), element, words }
    }
}
