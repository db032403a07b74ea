//! Types of the dialect subset.

use std::fmt;

/// Element type of a tensor at the kernel's boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ElementType {
    /// IEEE 754 binary32.
    F32,
    /// bfloat16.
    Bf16,
    /// 32-bit integer.
    I32,
    /// 16-bit integer.
    I16,
    /// 8-bit integer.
    I8,
}

impl ElementType {
    /// Size of one element in bytes.
    pub const fn size(self) -> usize {
        match self {
            ElementType::F32 | ElementType::I32 => 4,
            ElementType::Bf16 | ElementType::I16 => 2,
            ElementType::I8 => 1,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ElementType::F32 => "f32",
            ElementType::Bf16 => "bf16",
            ElementType::I32 => "i32",
            ElementType::I16 => "i16",
            ElementType::I8 => "i8",
        })
    }
}

impl From<crate::spec::DType> for ElementType {
    fn from(dtype: crate::spec::DType) -> Self {
        match dtype {
            crate::spec::DType::F32 => ElementType::F32,
            crate::spec::DType::Bf16 => ElementType::Bf16,
            crate::spec::DType::I32 => ElementType::I32,
        }
    }
}

/// Element type of any value of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Elem {
    F32,
    Bf16,
    I1,
    I8,
    I16,
    I32,
    Index,
    DmaSemaphore,
    Semaphore,
}

impl Elem {
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Elem::F32 | Elem::Bf16)
    }

    /// Integers of any width, booleans included.
    pub(crate) fn is_int(self) -> bool {
        matches!(self, Elem::I1 | Elem::I8 | Elem::I16 | Elem::I32 | Elem::Index)
    }

    pub(crate) fn is_semaphore(self) -> bool {
        matches!(self, Elem::DmaSemaphore | Elem::Semaphore)
    }

    /// Bits that an integer or float of this type has; `index` is 32 bits on the device and 64 here.
    pub(crate) fn bits(self) -> u32 {
        match self {
            Elem::I1 => 1,
            Elem::I8 => 8,
            Elem::I16 | Elem::Bf16 => 16,
            Elem::F32 | Elem::I32 | Elem::DmaSemaphore | Elem::Semaphore => 32,
            Elem::Index => 64,
        }
    }

    /// Bytes in memory. Semaphores count as one word each.
    pub(crate) fn bytes(self) -> usize {
        (self.bits() as usize).div_ceil(8)
    }

    pub(crate) fn tensor(self) -> Option<ElementType> {
        Some(match self {
            Elem::F32 => ElementType::F32,
            Elem::Bf16 => ElementType::Bf16,
            Elem::I32 => ElementType::I32,
            Elem::I16 => ElementType::I16,
            Elem::I8 => ElementType::I8,
            _ => return None,
        })
    }
}

impl From<ElementType> for Elem {
    fn from(t: ElementType) -> Self {
        match t {
            ElementType::F32 => Elem::F32,
            ElementType::Bf16 => Elem::Bf16,
            ElementType::I32 => Elem::I32,
            ElementType::I16 => Elem::I16,
            ElementType::I8 => Elem::I8,
        }
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Elem::F32 => "f32",
            Elem::Bf16 => "bf16",
            Elem::I1 => "i1",
            Elem::I8 => "i8",
            Elem::I16 => "i16",
            Elem::I32 => "i32",
            Elem::Index => "index",
            Elem::DmaSemaphore => "!tpu.dma_semaphore",
            Elem::Semaphore => "!tpu.semaphore",
        })
    }
}

/// Memory space of a memref.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Space {
    Any,
    Hbm,
    Vmem,
    Smem,
    Semaphore,
}

impl Space {
    pub(crate) fn parse(name: &str) -> Option<Space> {
        Some(match name {
            "any" => Space::Any,
            "hbm" => Space::Hbm,
            "vmem" => Space::Vmem,
            "smem" => Space::Smem,
            "semaphore_mem" => Space::Semaphore,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Space::Any => "any",
            Space::Hbm => "hbm",
            Space::Vmem => "vmem",
            Space::Smem => "smem",
            Space::Semaphore => "semaphore_mem",
        }
    }

    /// `any` and `hbm` are both device memory.
    pub(crate) fn is_hbm(self) -> bool {
        matches!(self, Space::Any | Space::Hbm)
    }
}

/// Type of an SSA value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Type {
    Scalar(Elem),
    Vector(Vec<usize>, Elem),
    MemRef(Vec<usize>, Elem, Space),
}

impl Type {
    pub(crate) const BOOL: Type = Type::Scalar(Elem::I1);
    pub(crate) const I32: Type = Type::Scalar(Elem::I32);
    pub(crate) const INDEX: Type = Type::Scalar(Elem::Index);

    pub(crate) fn elem(&self) -> Elem {
        match self {
            Type::Scalar(e) | Type::Vector(_, e) | Type::MemRef(_, e, _) => *e,
        }
    }

    /// Dimensions; none for a scalar.
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Type::Scalar(_) => &[],
            Type::Vector(s, _) | Type::MemRef(s, _, _) => s,
        }
    }

    /// The same scalar or vector with another element type.
    pub(crate) fn with_elem(&self, elem: Elem) -> Type {
        match self {
            Type::Scalar(_) => Type::Scalar(elem),
            Type::Vector(s, _) => Type::Vector(s.clone(), elem),
            Type::MemRef(s, _, m) => Type::MemRef(s.clone(), elem, *m),
        }
    }
}

/// Elements of an array of this shape.
pub(crate) fn volume(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Row-major strides.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for d in (1..shape.len()).rev() {
        out[d - 1] = out[d] * shape[d];
    }
    out
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims =
            |f: &mut fmt::Formatter<'_>, shape: &[usize]| shape.iter().try_for_each(|d| write!(f, "{d}x"));
        match self {
            Type::Scalar(e) => write!(f, "{e}"),
            Type::Vector(s, e) => {
                f.write_str("vector<")?;
                dims(f, s)?;
                write!(f, "{e}>")
            }
            Type::MemRef(s, e, m) => {
                f.write_str("memref<")?;
                dims(f, s)?;
                write!(f, "{e}, #tpu.memory_space<{}>>", m.name())
            }
        }
    }
}
