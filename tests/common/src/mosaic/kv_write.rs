use half::bf16;
use ndarray::{Array3, Array5, Axis, s};
use tpu_rpa::batch::{Group, KvSlots, Plan, Planner};
use tpu_rpa::emulator::{self, Operands, Tensor};
use tpu_rpa::kernels;
use tpu_rpa::reference;
use tpu_rpa::spec::{DType, KvWriteSpec};

use crate::{Element, Random, normal};

/// An element that is made of bits: NaNs with payloads and both signs among them.
pub trait Bits: Element + emulator::Element {
    const DTYPE: DType;
    fn of_bits(bits: u64) -> Self;
}

impl Bits for f32 {
    const DTYPE: DType = DType::F32;
    fn of_bits(bits: u64) -> Self {
        f32::from_bits(bits as u32)
    }
}

impl Bits for bf16 {
    const DTYPE: DType = DType::Bf16;
    fn of_bits(bits: u64) -> Self {
        bf16::from_bits(bits as u16)
    }
}

/// A KV write with what it must leave in the pages.
pub struct KvWriteCase<E> {
    pub spec: KvWriteSpec,
    pub plan: Plan,
    pub slots: KvSlots,
    /// Page of the pool from which slots count.
    pub first_page: i32,
    pub k: Array3<E>,
    pub v: Array3<E>,
    pub pages: Array5<E>,
    pub expected: Array5<E>,
}

impl<E: Bits> KvWriteCase<E> {
    /// Rows of N(0, 1), pages of random bits; the pages that slots count lie somewhere in a larger pool.
    pub fn new(spec: KvWriteSpec, pool_pages: usize, slots: &[i32], random: &mut Random) -> Self {
        let page_size = spec.page_size();
        let tiling = kernels::default_tiling(page_size).unwrap();
        let mut planner = Planner::new(page_size, pool_pages, tiling).unwrap();
        let tokens = slots.len();
        let group = Group { cu_seg_lens: &[0, tokens as i32], ..Group::default() };
        let plan = planner.plan(tokens, &[group]).unwrap();
        let slots = KvSlots::new(&planner, &plan, slots).unwrap();
        let rows = plan.bucket().tokens;

        let k: Array3<E> = normal((rows, spec.kv_heads(), spec.head_dim()), random);
        let v: Array3<E> = normal((rows, spec.kv_heads(), spec.head_dim()), random);
        let (before, behind) = (random.below(3), random.below(3));
        let shape = (before + pool_pages + behind, 2, spec.kv_heads(), page_size, spec.head_dim());
        let quiet_nan = if E::DTYPE == DType::F32 { 0x7f80_0000 } else { 0x7f80 };
        let pages = Array5::from_shape_simple_fn(shape, || {
            let bits = random.next_u64();
            E::of_bits(if bits >> 63 == 0 { bits } else { bits | quiet_nan })
        });
        let mut expected = pages.clone();
        let layer = expected.slice_mut(s![before..before + pool_pages, .., .., .., ..]);
        reference::kv_write(k.view(), v.view(), slots.slots(), layer);
        KvWriteCase { spec, plan, slots, first_page: before as i32, k, v, pages, expected }
    }

    /// Random shapes and slots: runs from random places, single tokens, rows that are not written, in any order.
    pub fn random(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let page_size = [8, 16, 32, 128][random.below(4)];
        let pool_pages = 2 + random.below(6);
        let (kv_heads, head_dim) = (1 + random.below(4), [64, 128][random.below(2)]);
        let spec = KvWriteSpec::new(kv_heads, head_dim, page_size, E::DTYPE).unwrap();
        let tokens = 1 + random.below((pool_pages * page_size).min(70));
        let mut free: Vec<i32> = (0..(pool_pages * page_size) as i32).collect();
        match random.below(3) {
            0 => random.shuffle(&mut free),
            1 => {
                let n = free.len();
                free.rotate_left(random.below(n));
            }
            _ => free.reverse(),
        }
        let slots: Vec<i32> =
            free.into_iter().take(tokens).map(|slot| if random.below(5) == 0 { -1 } else { slot }).collect();
        Self::new(spec, pool_pages, &slots, &mut random)
    }

    /// Rows of the token stream, padding included.
    pub fn rows(&self) -> usize {
        self.k.dim().0
    }

    pub fn pool_pages(&self) -> usize {
        self.pages.dim().0
    }

    pub fn text(&self) -> String {
        kernels::kv_write_mosaic("kv_write", &self.spec, self.rows(), self.pool_pages()).unwrap()
    }

    pub fn operands(&self) -> Operands {
        self.operands_with(self.chunk_table())
    }

    /// The chunk table of its slots.
    pub fn chunk_table(&self) -> Vec<i32> {
        self.slots.chunk_table(&self.plan).unwrap()
    }

    /// With a chunk table of the caller's.
    pub fn operands_with(&self, table: Vec<i32>) -> Operands {
        let new_kv = ndarray::concatenate(Axis(1), &[self.k.view(), self.v.view()]).unwrap();
        Operands::new()
            .input(Tensor::new(&[table.len()], table).unwrap())
            .input(Tensor::new(&[1], vec![self.first_page]).unwrap())
            .input(Tensor::from_array(new_kv.view()).unwrap())
            .input(Tensor::from_array(self.pages.view()).unwrap())
            .output(E::TYPE, self.pages.shape())
            .alias(3, 0)
    }

    /// Whether the pages that a kernel left are right to the bit.
    pub fn is_expected(&self, pages: &Tensor) -> bool {
        let found: &[u8] = bytemuck::cast_slice(pages.as_slice::<E>().unwrap());
        found == bytemuck::cast_slice::<E, u8>(self.expected.as_slice().unwrap())
    }
}
