use std::sync::Arc;

use half::bf16;
use tpu_rpa::runtime::{Buffer, Client, Executable};
use tpu_rpa::spec::DType;
use workloads::Attention;

pub type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// A program with its arguments.
pub struct Contender {
    pub executable: Arc<Executable>,
    pub arguments: Vec<Buffer>,
}

impl Contender {
    pub fn run(&self) -> Fallible<Vec<Buffer>> {
        Ok(self.executable.run(&self.arguments.iter().collect::<Vec<_>>())?)
    }

    /// What it computes for the first `tokens` rows.
    pub fn first(&self, dtype: DType, tokens: usize) -> Fallible<Vec<f32>> {
        let result = self.run()?.swap_remove(0);
        let row = result.dims().iter().skip(1).product::<usize>();
        let mut values = match dtype {
            DType::Bf16 => result.to_vec::<bf16>()?.into_iter().map(bf16::to_f32).collect(),
            _ => result.to_vec::<f32>()?,
        };
        values.truncate(tokens * row);
        Ok(values)
    }

    pub fn temp_mib(&self) -> f64 {
        self.executable.memory_stats().map_or(f64::NAN, |m| m.temp as f64 / (1 << 20) as f64)
    }
}

/// Deterministic values of about unit size.
fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2_654_435_761).max(1);
    let mut next = move || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as f32 / u32::MAX as f32 - 0.5
    };
    (0..n).map(|_| (0..4).map(|_| next()).sum::<f32>() * 1.7).collect()
}

fn upload(client: &Client, dtype: DType, values: &[f32], dims: &[usize]) -> Fallible<Buffer> {
    Ok(match dtype {
        DType::Bf16 => {
            let values: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
            client.upload(&values, dims)?
        }
        _ => client.upload(values, dims)?,
    })
}

/// Most elements of a tensor that is uploaded: eight GiB in f32.
pub const MOST_ELEMENTS: usize = 1 << 31;

/// Elements of the largest of queries, with room for padding, and pool.
pub fn elements(workload: &Attention) -> usize {
    let product = |dims: &[usize]| dims.iter().fold(1, |n: usize, &dim| n.saturating_mul(dim));
    let Attention { q_heads, kv_heads, head_dim, page_size, .. } = *workload;
    let rows = product(&[2, workload.tokens(), q_heads, head_dim]);
    rows.max(product(&[workload.pool_pages(), 2, kv_heads, page_size, head_dim]))
}

/// q, k, v of `rows` rows (padding zeros) and the pages.
pub fn tensors(client: &Client, workload: &Attention, rows: usize) -> Fallible<Vec<Buffer>> {
    let Attention { q_heads, kv_heads, head_dim, dtype, page_size, .. } = *workload;
    let mut out = Vec::new();
    for (seed, heads) in [(1, q_heads), (2, kv_heads), (3, kv_heads)] {
        let mut x = values(workload.tokens() * heads * head_dim, seed);
        x.resize(rows * heads * head_dim, 0.0);
        out.push(upload(client, dtype, &x, &[rows, heads, head_dim])?);
    }
    let dims = [workload.pool_pages(), 2, kv_heads, page_size, head_dim];
    out.push(upload(client, dtype, &values(dims.iter().product(), 4), &dims)?);
    Ok(out)
}
