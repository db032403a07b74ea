//! What a kernel can be made of: tilings, specs and plans that suit each other.

use tpu_rpa::batch::{Group, Plan, Planner, Tiling};
use tpu_rpa::kernels::{Kernel, KernelError, Target, stablehlo_function};
use tpu_rpa::spec::AttentionSpec;

const POOL_PAGES: usize = 8;

fn spec(page_size: usize, window: Option<u32>) -> AttentionSpec {
    let spec = AttentionSpec::builder(16, 2, 64).page_size(page_size);
    window.map_or(spec.clone(), |window| spec.sliding_window(window)).build().unwrap()
}

fn tilings() -> [Tiling; 2] {
    [Tiling::portable(32, 64, 32, 16).unwrap(), Tiling::tpu(32, 64, 32, 16).unwrap().into()]
}

fn plan(tiling: Tiling, window: Option<u32>) -> Plan {
    let group = Group { prefix_len: 20, pages: &[3, 1], cu_seg_lens: &[0, 30, 50], lead: true };
    let planner = Planner::new(16, POOL_PAGES, tiling).unwrap();
    planner.with_sliding_window(window).plan(50, &[group]).unwrap()
}

fn by_hand(spec: &AttentionSpec, plan: &Plan, pool_pages: usize) -> Kernel {
    Kernel::Attention { spec: spec.clone(), tiling: plan.tiling(), bucket: plan.bucket(), pool_pages }
}

/// Each target takes its own tiling, and says whose it was given else.
#[test]
fn a_tiling_is_for_one_target() {
    let targets = [(Target::Portable, "portable attention"), (Target::Tpu, "TPU attention")];
    for (tiling, own) in tilings().into_iter().zip([Target::Portable, Target::Tpu]) {
        assert_eq!(Target::of(&tiling), own);
        assert_eq!(Target::of(&own.tiling(16).unwrap()), own);
        let kernel = by_hand(&spec(16, None), &plan(tiling, None), POOL_PAGES);
        for (target, name) in targets {
            let function = stablehlo_function("a", &kernel, target);
            if target == own {
                function.unwrap();
            } else {
                let error = KernelError::TilingTarget { kernel: name, tiling: own, expected: target };
                assert_eq!(function.unwrap_err(), error);
                let text =
                    format!("tiling is for the {own} target; {name} takes one for the {target} target");
                assert_eq!(error.to_string(), text);
            }
        }
    }
}
