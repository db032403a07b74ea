//! What a kernel can be made of: tilings, specs and plans that suit each other.

use tpu_rpa::batch::{Group, Plan, Planner, Tiling};
use tpu_rpa::kernels::{self, Kernel, KernelError, Target, stablehlo_function, verify};
use tpu_rpa::spec::{AttentionSpec, DType, KvWriteSpec, LabelLogprobsSpec, LabelSet};

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

/// The kernel of a plan is the one that its shape written out gives, on the plan's pool and on a larger one.
#[test]
fn a_kernel_of_a_plan_is_the_one_made_by_hand() {
    let labels = LabelLogprobsSpec::new(64, 100, LabelSet::Shared(3), DType::F32).unwrap();
    for tiling in tilings() {
        for (window, pool_pages) in [(None, POOL_PAGES), (Some(20), 3 * POOL_PAGES)] {
            let (spec, plan) = (spec(16, window), plan(tiling, window));
            assert_eq!(
                (plan.page_size(), plan.pool_pages(), plan.sliding_window()),
                (16, POOL_PAGES, window)
            );
            let kernel = Kernel::attention(&spec, &plan, pool_pages).unwrap();
            assert_eq!(kernel, by_hand(&spec, &plan, pool_pages));
            let target = Target::of(&tiling);
            stablehlo_function("a", &kernel, target).unwrap();

            let kernel = Kernel::attention_write(&spec, &plan, pool_pages).unwrap();
            let (own, tiling, bucket) = (spec.clone(), plan.tiling(), plan.bucket());
            assert_eq!(kernel, Kernel::AttentionWrite { spec: own, tiling, bucket, pool_pages });
            stablehlo_function("a", &kernel, target).unwrap();

            let (spec, tokens) = (KvWriteSpec::from(&spec), bucket.tokens);
            let kernel = Kernel::kv_write(&spec, &plan, pool_pages).unwrap();
            assert_eq!(kernel, Kernel::KvWrite { spec, tokens, pool_pages });
            stablehlo_function("a", &kernel, target).unwrap();

            let kernels = [
                Kernel::label_logprobs(&labels, tokens, 5).unwrap(),
                Kernel::label_softmax(&labels, tokens, 5).unwrap(),
            ];
            let spec = || labels.clone();
            assert_eq!(kernels[0], Kernel::LabelLogprobs { spec: spec(), tokens, rows: 5 });
            assert_eq!(kernels[1], Kernel::LabelSoftmax { spec: spec(), tokens, rows: 5 });
        }
    }
}

#[test]
fn a_plan_for_another_spec_is_refused() {
    let other = |field, plan, kernel| Err(KernelError::OtherPlan { field, plan, kernel });
    for tiling in tilings() {
        let both = |spec: &AttentionSpec, window, pool_pages| {
            let plan = plan(tiling, window);
            let attention = Kernel::attention(spec, &plan, pool_pages).map(drop);
            assert_eq!(Kernel::attention_write(spec, &plan, pool_pages).map(drop), attention);
            (attention, Kernel::kv_write(&spec.into(), &plan, pool_pages).map(drop))
        };
        for page_size in [8, 32] {
            let error = other("page_size", Some(16), Some(page_size));
            assert_eq!(both(&spec(page_size, None), None, POOL_PAGES), (error.clone(), error));
        }
        for (window, plan, found) in [
            (None, None, Ok(())),
            (None, Some(20), other("sliding_window", Some(20), None)),
            (Some(20), Some(19), other("sliding_window", Some(19), Some(20))),
            (Some(20), Some(20), Ok(())),
            // All tiles that are needed, and more; but some of them are listed as seen whole.
            (Some(20), Some(21), other("sliding_window", Some(21), Some(20))),
            (Some(20), None, other("sliding_window", None, Some(20))),
        ] {
            assert_eq!(both(&spec(16, window), plan, POOL_PAGES), (found, Ok(())), "{window:?} {plan:?}");
        }
        for pool_pages in [0, POOL_PAGES - 1] {
            let error = Err(KernelError::SmallPool { pool_pages, plan_pool_pages: POOL_PAGES });
            assert_eq!(both(&spec(16, None), None, pool_pages), (error.clone(), error));
        }
    }
    let text = |error: Result<(), KernelError>| error.unwrap_err().to_string();
    assert_eq!(
        text(other("sliding_window", Some(20), None)),
        "sliding_window of the plan is 20; that of the kernel is none"
    );
    assert_eq!(
        text(other("page_size", Some(16), Some(8))),
        "page_size of the plan is 16; that of the kernel is 8"
    );
}

/// A name is refused that its module, or the kernel's own text, has a function for.
#[test]
fn a_name_is_nobody_elses() {
    let labels = LabelLogprobsSpec::new(64, 100, LabelSet::Shared(3), DType::F32).unwrap();
    let reserved = |name: &str, owner| KernelError::ReservedName { name: name.to_owned(), owner };
    for tiling in tilings() {
        let (spec, plan) = (spec(16, None), plan(tiling, None));
        let kernels = [
            Kernel::attention(&spec, &plan, POOL_PAGES).unwrap(),
            Kernel::attention_write(&spec, &plan, POOL_PAGES).unwrap(),
            Kernel::kv_write(&(&spec).into(), &plan, POOL_PAGES).unwrap(),
            Kernel::label_logprobs(&labels, 50, 5).unwrap(),
            Kernel::label_softmax(&labels, 50, 5).unwrap(),
        ];
        let target = Target::of(&tiling);
        for kernel in &kernels {
            let named =
                |name: &str| stablehlo_function(name, kernel, target).map(|function| function.module());
            assert_eq!(named("main"), Err(reserved("main", "a module")));
            for name in ["", "1a", "a b", "a\"", "a\n}", "é", "@a"] {
                assert_eq!(named(name), Err(KernelError::Name { name: name.to_owned() }), "{kernel}");
            }
            for name in [
                "main_",
                "Main",
                "q_block",
                "row_block",
                "label_window",
                "row_window",
                "end_window",
                "out_window",
            ] {
                match (named(name), kernel.mosaic_text(name)) {
                    (Ok(module), text) => {
                        verify(&module).unwrap();
                        if let (Target::Tpu, Ok(text)) = (target, text) {
                            assert_eq!(text.matches(&format!("func.func @{name}(")).count(), 1, "{name}");
                        }
                    }
                    (Err(error), text) => {
                        assert_eq!(error, reserved(name, kernel.name()));
                        assert_eq!((text.unwrap_err(), target), (error, Target::Tpu));
                    }
                }
            }
        }
        if target == Target::Tpu {
            let refused = |kernel: &Kernel, name| stablehlo_function(name, kernel, target).unwrap_err();
            assert_eq!(refused(&kernels[0], "q_block"), reserved("q_block", "attention"));
            assert_eq!(refused(&kernels[3], "end_window"), reserved("end_window", "label_logprobs"));
            let hostile = kernels[2].mosaic_text("a\n}").unwrap_err();
            assert_eq!(hostile, KernelError::Name { name: "a\n}".to_owned() });
        }
        // In a module of the caller's, where functions meet.
        let [a, b] = ["x", "x_attention"].map(|name| {
            let kernel = &kernels[usize::from(name == "x")];
            stablehlo_function(name, kernel, target).unwrap()
        });
        let error = verify(&format!("module @m {{\n{}\n{}\n}}", a.text(), b.text())).unwrap_err();
        assert_eq!(error.problem, "@x_attention is defined twice");
    }
    let plan = plan(tilings()[0], None);
    assert_eq!(kernels::positions("main", &plan.bucket()), Err(reserved("main", "a module")));
}
