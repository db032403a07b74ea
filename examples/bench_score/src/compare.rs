use std::fs;

use anyhow::{Context, Result};
use minijinja::{Environment, context};
use serde::Serialize;

use crate::args::CompareArgs;
use crate::plots;
use crate::report::{Case, Report};

/// What is compared: name, whether more is better, and the value.
type Metric = (&'static str, bool, fn(&Case) -> f64);

const METRICS: [Metric; 8] = [
    ("items/s", true, |case| case.items_per_second),
    ("requests/s", true, |case| case.requests_per_second),
    ("tokens/s", true, |case| case.tokens_per_second),
    ("p50 ms", false, |case| case.latency_ms.p50),
    ("p95 ms", false, |case| case.latency_ms.p95),
    ("p99 ms", false, |case| case.latency_ms.p99),
    ("mean ms", false, |case| case.latency_ms.mean),
    ("errors", false, |case| case.error_count() as f64),
];

#[derive(Serialize)]
struct Table {
    case: String,
    rows: Vec<Row>,
    plot: String,
}

#[derive(Serialize)]
struct Row {
    metric: &'static str,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    value: String,
    /// Against the first report, above 1 is better; none for the first and where it has none.
    ratio: Option<String>,
}

/// Renders reports side by side.
pub(crate) fn run(args: &CompareArgs) -> Result<()> {
    let reports: Vec<Report> = args.reports.iter().map(|path| Report::read(path)).collect::<Result<_>>()?;
    let names: Vec<String> = args
        .reports
        .iter()
        .map(|path| path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()))
        .collect();
    let mut tables = Vec::new();
    for case in &reports[0].cases {
        let name = &case.workload.name;
        let cases: Vec<Option<&Case>> = reports
            .iter()
            .map(|report| report.cases.iter().find(|other| other.workload.name == *name))
            .collect();
        let plot = plots::latencies(&names, &cases)?;
        let case = format!("{name}: {}", case.workload);
        tables.push(Table { case, rows: METRICS.iter().map(|metric| row(metric, &cases)).collect(), plot });
    }
    let overview = plots::throughput(&names, &reports)?;
    let environments: Vec<_> = reports.iter().map(|report| &report.environment).collect();
    let cold: Vec<_> = reports.iter().map(|report| &report.cold_start).collect();
    let mut templates = Environment::new();
    templates.add_template("report.md", include_str!("report.md.jinja")).context("template")?;
    templates.add_template("report.html", include_str!("report.html.jinja")).context("template")?;
    let render = |template: &str| -> Result<String> {
        let values = context! { style => plot::STYLE, names, tables, overview, environments, cold };
        templates.get_template(template)?.render(values).context("report")
    };
    for (path, template) in [(&args.markdown, "report.md"), (&args.html, "report.html")] {
        if let Some(path) = path {
            fs::write(path, render(template)?).with_context(|| path.display().to_string())?;
        }
    }
    if args.markdown.is_none() && args.html.is_none() {
        print!("{}", render("report.md")?);
    }
    Ok(())
}

fn row(&(metric, more_is_better, value): &Metric, cases: &[Option<&Case>]) -> Row {
    let first = cases[0].map(value);
    let cells = cases.iter().enumerate().map(|(i, case)| match case {
        None => Cell { value: "—".into(), ratio: None },
        Some(case) => {
            let value = value(case);
            let ratio = first.filter(|&first| i > 0 && first > 0.0 && value > 0.0);
            let ratio = ratio.map(|first| if more_is_better { value / first } else { first / value });
            Cell { value: format!("{value:.1}"), ratio: ratio.map(|ratio| format!("{ratio:.2} ×")) }
        }
    });
    Row { metric, cells: cells.collect() }
}
