use tpu_rpa::batch::Tiling;
use tpu_rpa::kernels;
use tpu_rpa::runtime::{Client, CompileOptions};
use workloads::{Attention, Batch};

use crate::contender::{Contender, Fallible, tensors};

/// The portable kernel on a workload's plan.
pub fn contender(client: &Client, workload: &Attention, tiling: Tiling) -> Fallible<Contender> {
    let mut planner = workload.planner(tiling)?;
    let batch = Batch::new(workload, &planner);
    let plan = planner.plan(batch.tokens(), &batch.groups())?;
    let (spec, bucket) = (workload.spec()?, plan.bucket());
    let function = kernels::attention("attention", &spec, &tiling, &bucket, workload.pool_pages())?;
    let mut arguments = tensors(client, workload, bucket.tokens)?;
    arguments.push(client.upload(plan.meta(), &[plan.meta().len()])?);
    arguments.push(client.upload(&[0i32], &[])?);
    Ok(Contender { executable: client.compile(&function.module(), &CompileOptions::new())?, arguments })
}
