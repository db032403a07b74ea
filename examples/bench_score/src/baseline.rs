use anyhow::{Result, bail, ensure};

use crate::report::{Case, Report};
use crate::workload::Workload;

/// What a comparison with a baseline came to.
pub(crate) struct Verdict {
    pub(crate) failed: bool,
    pub(crate) text: String,
}

/// Fails where items/s fell by `threshold` percent or p95 rose by 1.5 times it, or where requests failed that did not
/// before; warns where p99 rose by twice it, and where the environments differ.
pub(crate) fn judge(report: &Report, baseline: &Report, threshold: f64) -> Result<Verdict> {
    let mut lines = Vec::new();
    let mut failed = false;
    let (now, then) = (&report.environment, &baseline.environment);
    for (what, now, then) in [
        ("device", &now.device, &then.device),
        ("platform", &now.platform_version, &then.platform_version),
        ("model", &now.model, &then.model),
        ("dtype", &now.dtype, &then.dtype),
        ("host", &now.host, &then.host),
    ] {
        if now != then {
            lines.push(format!("warning: {what} is {now}; the baseline's is {then}"));
        }
    }
    for case in &report.cases {
        let before = counterpart(case, baseline)?;
        let name = &case.workload.name;
        let change = |now: f64, then: f64| (now / then.max(1e-9) - 1.0) * 100.0;
        let throughput = change(case.items_per_second, before.items_per_second);
        let p95 = change(case.latency_ms.p95, before.latency_ms.p95);
        let p99 = change(case.latency_ms.p99, before.latency_ms.p99);
        let errors = case.error_count() > 0 && before.error_count() == 0;
        for (what, bad, sign, bound) in [
            ("items/s", throughput <= -threshold, throughput, -threshold),
            ("p95", p95 >= 1.5 * threshold, p95, 1.5 * threshold),
        ] {
            failed |= bad;
            let verdict = if bad { "REGRESSION" } else { "ok" };
            lines.push(format!("{verdict}: {name}: {what} {sign:+.1} % (bound {bound:+.0} %)"));
        }
        if p99 >= 2.0 * threshold {
            lines.push(format!("warning: {name}: p99 {p99:+.1} %"));
        }
        if errors {
            failed = true;
            lines.push(format!("REGRESSION: {name}: {:?}", case.errors));
        }
    }
    Ok(Verdict { failed, text: lines.join("\n") })
}

fn counterpart<'a>(case: &Case, baseline: &'a Report) -> Result<&'a Case> {
    let name = &case.workload.name;
    let Some(before) = baseline.cases.iter().find(|before| before.workload.name == *name) else {
        bail!("the baseline has no case {name:?}");
    };
    // How long is measured does not change what is.
    let load =
        |w: &Workload| Workload { duration: Default::default(), warm_up: Default::default(), ..w.clone() };
    let same = load(&before.workload) == load(&case.workload);
    ensure!(same, "the baseline's case {name:?} is another workload: {}", before.workload);
    ensure!(before.requests > 0, "the baseline's case {name:?} has no answered request");
    Ok(before)
}
