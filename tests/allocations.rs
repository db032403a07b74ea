//! Host allocations on the way of a request, counted: a planner that has seen a bucket and a program that is compiled
//! allocate their outputs and nothing else. Counted is what this thread allocates in Rust; a PJRT plugin's own memory is
//! not.

use std::sync::Arc;

use allocation_counter::{AllocationInfo, measure};
use tpu_rpa::batch::{Group, Plan, Planner, Tiling};
use tpu_rpa::kernels;
use tpu_rpa::runtime::{Client, ClientOptions, CompileOptions, DiscoveryOptions, Executable, Plugin};
use tpu_rpa::spec::AttentionSpec;

/// The batch's words, and what is remembered of each group.
const PLAN: u64 = 2;

/// Bytes that a plan remembers a group by: its prefix, its start, and where its lead and it end.
const GROUP: usize = 4 * size_of::<usize>();
/// The handle; its shape is in it.
const BUFFER: u64 = 1;
/// The list of outputs.
const OUTPUTS: u64 = 1;

/// `f`'s result, and what it allocated.
fn counted<R>(f: impl FnOnce() -> R) -> (R, AllocationInfo) {
    let mut result = None;
    let info = measure(|| result = Some(f()));
    (result.expect("measure runs it"), info)
}

/// Tokens; of each group the prefix length, whether it has a lead, and its offsets.
type Batch = (usize, Vec<(i32, bool, Vec<i32>)>);

/// CSR offsets of `count` segments of `len` tokens behind one of `first`.
fn offsets(start: usize, first: usize, count: usize, len: usize) -> Vec<i32> {
    let ends = (0..=count).map(|i| (start + first + i * len) as i32);
    std::iter::once(start as i32).chain(ends).collect()
}

#[test]
fn a_second_batch_of_a_bucket_allocates_its_plan_only() {
    let pages: Vec<i32> = (0..1024).collect();
    let portable = Tiling::portable(256, 512, 128, 128).unwrap();
    for tiling in [portable, Tiling::tpu(256, 512, 128, 128).unwrap().into()] {
        let one_pass = |items| {
            let cu_seg_lens = offsets(0, 2000, items, 20);
            (2000 + items * 20, vec![(0, true, cu_seg_lens)])
        };
        let cached = |items| (items * 20, vec![(2000, false, offsets(0, 0, items, 20))]);
        let decode =
            |sequences| (sequences, (0..sequences).map(|i| (1023, false, offsets(i, 1, 0, 0))).collect());
        let prefill = |tokens| (tokens, vec![(0, false, offsets(0, tokens, 0, 0))]);
        for (name, first, second) in [
            ("a query of 2000 and 500 items, then 490", one_pass(500), one_pass(490)),
            ("505 items on a cached query, then 502", cached(505), cached(502)),
            ("decode of 120, then 118", decode(120), decode(118)),
            ("prefill of 2048, then 2000", prefill(2048), prefill(2000)),
        ] {
            let mut planner = Planner::new(128, 1024, tiling).unwrap();
            let mut plan = |(tokens, groups): &Batch| -> (Plan, AllocationInfo) {
                let groups: Vec<Group<'_>> = groups
                    .iter()
                    .map(|(prefix_len, lead, cu_seg_lens)| Group {
                        prefix_len: *prefix_len,
                        pages: &pages,
                        cu_seg_lens,
                        lead: *lead,
                    })
                    .collect();
                let (plan, info) = counted(|| planner.plan(*tokens, &groups));
                (plan.expect("a valid batch"), info)
            };
            let (before, fresh) = plan(&first);
            let (after, again) = plan(&second);
            assert_eq!(before.bucket(), after.bucket(), "{name}");
            println!("{name}: {} allocations, then {}", fresh.count_total, again.count_total);
            assert!(fresh.count_total > PLAN, "{name}: the counter counts");
            assert_eq!(again.count_total, PLAN, "{name}");
            let bytes = 4 * after.meta().len() + GROUP * second.1.len();
            assert_eq!(again.bytes_total, bytes as u64, "{name}: bytes");
        }
    }
}

#[test]
fn a_second_request_of_a_bucket_allocates_its_outputs_only() {
    const PAGE_SIZE: usize = 16;
    const POOL_PAGES: usize = 4;
    let plugin = Plugin::discover(&DiscoveryOptions::from_env()).expect("`make tools` fetches a plugin");
    let client = Client::new(&plugin, ClientOptions::new().device_count(1)).expect("a client");
    let spec = AttentionSpec::builder(2, 1, 64).page_size(PAGE_SIZE).build().unwrap();
    let mut planner =
        Planner::new(PAGE_SIZE, POOL_PAGES, kernels::default_tiling(PAGE_SIZE).unwrap()).unwrap();
    let group = |cu_seg_lens| Group { lead: true, cu_seg_lens, ..Group::default() };

    let first = planner.plan(100, &[group(&[0, 40, 60, 75, 100])]).unwrap();
    let kernel =
        kernels::attention("attention", &spec, &first.tiling(), &first.bucket(), POOL_PAGES).unwrap();
    let program: Arc<Executable> = client.compile(&kernel.module(), &CompileOptions::new()).unwrap();
    let tensors: Vec<_> = kernel.inputs()[..4]
        .iter()
        .map(|input| client.upload(&vec![0.5f32; input.dims.iter().product()], &input.dims).unwrap())
        .collect();
    let first_page = client.upload(&[0i32], &[]).unwrap();
    let run = |plan: &Plan| {
        // One transfer: all that the kernel reads of a plan is one tensor.
        let meta = client.upload(plan.meta(), &[plan.meta().len()]).unwrap();
        program.run(&[&tensors[0], &tensors[1], &tensors[2], &tensors[3], &meta, &first_page]).unwrap()
    };
    run(&first);

    let groups = [group(&[0, 50, 64, 70, 90])];
    let (second, planning) = counted(|| planner.plan(90, &groups).unwrap());
    assert_eq!(second.bucket(), first.bucket());
    let (outputs, launching) = counted(|| run(&second));
    println!("planning {}, upload and launch {} allocations", planning.count_total, launching.count_total);
    assert_eq!(outputs.len(), 1);
    assert_eq!(planning.count_total, PLAN);
    // The metadata's buffer, the list of outputs, the output's buffer.
    assert_eq!(launching.count_total, BUFFER + OUTPUTS + BUFFER);
    let mut host = vec![0f32; outputs[0].len()];
    let ((), download) = counted(|| outputs[0].read_into(&mut host).unwrap());
    assert_eq!(download.count_total, 0);
    assert!(host.iter().take(90 * 2 * 64).all(|&x| (x - 0.5).abs() < 1e-6), "the request was computed");
    let ((), freed) = counted(|| drop((second, outputs)));
    assert_eq!(freed.count_total, 0);
}
