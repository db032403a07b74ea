use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Cases of a property suite: `PROPTEST_CASES`, else `default`.
pub fn cases(default: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(default)
}

/// Draws `cases` cases on all cores; fails with the smallest failing case of the first core that has one.
pub fn property<S: Strategy>(
    cases: u32,
    shrinks: u32,
    strategy: impl Fn() -> S + Sync,
    test: impl Fn(S::Value) -> Result<(), TestCaseError> + Sync,
) {
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u32).min(cases.max(1));
    let failures: Vec<String> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                let (strategy, test) = (&strategy, &test);
                let share = cases / workers + u32::from(worker < cases % workers);
                scope.spawn(move || {
                    let mut runner = TestRunner::new(ProptestConfig {
                        cases: share,
                        max_shrink_iters: shrinks,
                        failure_persistence: None,
                        ..ProptestConfig::default()
                    });
                    runner.run(&strategy(), test).map_err(|e| e.to_string())
                })
            })
            .collect();
        handles.into_iter().filter_map(|h| h.join().expect("a worker panicked").err()).collect()
    });
    if let Some(failure) = failures.into_iter().next() {
        panic!("{failure}");
    }
}
