use anyhow::Result;
use plotters::prelude::*;

use crate::report::{Case, Report};
use plot::{failed, svg};

const SIZE: (u32, u32) = (800, 320);

/// Share of requests that were answered within a time, a line a report: an SVG.
pub(crate) fn latencies(names: &[String], cases: &[Option<&Case>]) -> Result<String> {
    let longest = cases.iter().flatten().flat_map(|case| &case.samples_ms).copied().fold(1.0, f64::max);
    svg(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption("Answered within", ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(50)
            .build_cartesian_2d(0.0..longest * 1.05, 0.0..100.0)
            .map_err(failed)?;
        chart.configure_mesh().x_desc("ms").y_desc("% of requests").draw().map_err(failed)?;
        for (i, (name, case)) in names.iter().zip(cases).enumerate() {
            let Some(case) = case else { continue };
            let mut ms = case.samples_ms.clone();
            ms.sort_by(f64::total_cmp);
            let count = ms.len() as f64;
            // A step at each sample.
            let points = ms
                .iter()
                .enumerate()
                .flat_map(|(k, &x)| [(x, k as f64 / count * 100.0), (x, (k + 1) as f64 / count * 100.0)]);
            let color = Palette99::pick(i).to_rgba();
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)))
                .map_err(failed)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()
            .map_err(failed)
    })
}

/// Items a second, a group of bars a case and a bar a report: an SVG.
pub(crate) fn throughput(names: &[String], reports: &[Report]) -> Result<String> {
    let cases: Vec<&str> = reports[0].cases.iter().map(|case| case.workload.name.as_str()).collect();
    let rate = |report: &Report, name: &str| {
        report.cases.iter().find(|case| case.workload.name == name).map_or(0.0, |case| case.items_per_second)
    };
    let most = reports.iter().flat_map(|r| &r.cases).map(|case| case.items_per_second).fold(1.0, f64::max);
    svg(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption("Items a second", ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..cases.len() as f64, 0.0..most * 1.1)
            .map_err(failed)?;
        // A label stands in the middle of its group; between groups there is none.
        let label = |x: &f64| {
            let middle = (x.fract() - 0.5).abs() < 1e-6;
            cases.get(*x as usize).filter(|_| middle).map_or(String::new(), |name| (*name).to_owned())
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(2 * cases.len() + 1)
            .x_label_formatter(&label)
            .draw()
            .map_err(failed)?;
        let width = 0.8 / reports.len() as f64;
        for (i, (name, report)) in names.iter().zip(reports).enumerate() {
            let color = Palette99::pick(i).to_rgba();
            let bars = cases.iter().enumerate().map(|(group, case)| {
                let left = group as f64 + 0.1 + i as f64 * width;
                Rectangle::new([(left, 0.0), (left + width * 0.95, rate(report, case))], color.filled())
            });
            chart
                .draw_series(bars)
                .map_err(failed)?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()
            .map_err(failed)
    })
}
