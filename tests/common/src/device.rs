//! The PJRT device that kernel tests run on: whatever plugin discovery finds (`make tools` fetches a CPU one).

use std::sync::OnceLock;

use ndarray::Array3;
use tpu_rpa::batch::{Plan, Planner, Tiling};
use tpu_rpa::kernels::{self, Function};
use tpu_rpa::runtime::{
    self, Buffer, Client, ClientOptions, CompileOptions, DiscoveryOptions, InterpretedTpu, Plugin,
};
use tpu_rpa::spec::AttentionSpec;

use crate::{Batch, Element, Tensors};

/// One client for a whole test binary, with the in-memory executable cache.
pub fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let plugin = Plugin::discover(&DiscoveryOptions::from_env())
            .unwrap_or_else(|e| panic!("no PJRT plugin, run `make tools`: {e}"));
        Client::new(&plugin, ClientOptions::new().device_count(1)).expect("the plugin makes a client")
    })
}

/// A client of `devices` devices of an interpreted TPU, over the plugin of [`client`].
pub fn interpreted_with(tpu: InterpretedTpu, devices: u32) -> Client {
    let options = ClientOptions::new().device_count(devices).interpreted_tpu(tpu);
    Client::new(&client().plugin(), options).expect("the plugin stands for a TPU")
}

/// Clients of the two older CPU plugins of the tool folder; a missing one is skipped loudly.
pub fn older_clients() -> Vec<Client> {
    let folder = crate::root().join(".tools/py-extra");
    let files = ["xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so", "fastatomstruct_xla_cpu/libpjrt_cpu.so"];
    files
        .iter()
        .map(|file| folder.join(file))
        .filter_map(|path| {
            if !path.is_file() {
                eprintln!("SKIPPED: {} is missing (`.ci/tools.sh extra` fetches it)", path.display());
                return None;
            }
            let plugin = Plugin::load(&path).expect("an extra plugin loads");
            Some(
                Client::new(&plugin, ClientOptions::new().device_count(1))
                    .expect("an extra plugin makes a client"),
            )
        })
        .collect()
}

/// An element that crosses the boundary and that tests can compute with.
pub trait DeviceElement: Element + runtime::Element {}
impl<T: Element + runtime::Element> DeviceElement for T {}

/// Compiles a function alone and runs it.
pub fn run(client: &Client, function: &Function, arguments: &[&Buffer]) -> Vec<Buffer> {
    let executable = client.compile(&function.module(), &CompileOptions::new()).expect("the kernel compiles");
    executable.run(arguments).expect("the kernel runs")
}

/// The plan of a batch under a spec and a tiling.
pub fn plan(spec: &AttentionSpec, tiling: Tiling, batch: &Batch) -> Plan {
    Planner::new(spec.page_size(), batch.pool_pages, tiling)
        .expect("the tiling suits the pages")
        .with_sliding_window(spec.sliding_window())
        .with_gaps()
        .plan(batch.total_tokens, &batch.groups())
        .expect("a drawn batch is valid")
}

/// Attention of `tensors` (of the plan's bucket rows) on the device: `[T, q_heads, head_dim]`.
pub fn attention<E: DeviceElement>(spec: &AttentionSpec, plan: &Plan, tensors: &Tensors<E>) -> Array3<E> {
    attention_on(client(), spec, plan, tensors)
}

/// [`attention`] on a client of choice.
pub fn attention_on<E: DeviceElement>(
    client: &Client,
    spec: &AttentionSpec,
    plan: &Plan,
    tensors: &Tensors<E>,
) -> Array3<E> {
    let pool_pages = tensors.kv_pages.shape()[0];
    let function = kernels::attention("attention", spec, &plan.tiling(), &plan.bucket(), pool_pages)
        .expect("the kernel renders");
    let upload = |a: &[E], dims: &[usize]| client.upload(a, dims).expect("upload");
    let q = upload(tensors.q.as_slice().unwrap(), tensors.q.shape());
    let k = upload(tensors.k.as_slice().unwrap(), tensors.k.shape());
    let v = upload(tensors.v.as_slice().unwrap(), tensors.v.shape());
    let pages = upload(tensors.kv_pages.as_slice().unwrap(), tensors.kv_pages.shape());
    let meta = client.upload(plan.meta(), &[plan.meta().len()]).expect("upload");
    let first_page = client.upload(&[tensors.first_page], &[]).expect("upload");
    let out = run(client, &function, &[&q, &k, &v, &pages, &meta, &first_page]).remove(0);
    Array3::from_shape_vec(tensors.q.raw_dim(), out.to_vec::<E>().expect("download"))
        .expect("the promised shape")
}
