//! The drawings of a report.

use anyhow::Result;
use plotters::prelude::*;
use tpu_rpa::schedule::{DeviceKind, Region};

use crate::report::STRIP;
use plot::{failed, svg};

/// A workload in a roofline plot: FLOP a byte, FLOP/s.
pub(crate) struct Point {
    pub(crate) name: String,
    /// By the bytes that no kernel can avoid.
    pub(crate) least: f64,
    /// By the bytes that were copied.
    pub(crate) copied: f64,
    pub(crate) rate: f64,
}

/// Rate over arithmetic intensity on logarithmic axes, below the slope of HBM and the ceiling of the matrix units.
pub(crate) fn roofline(device: DeviceKind, points: &[Point]) -> Result<String> {
    let (peak, bandwidth) = (device.peak_flops(), device.hbm_bandwidth());
    let ridge = peak / bandwidth;
    let all = points.iter().flat_map(|p| [p.least, p.copied]).chain([ridge]);
    let (low, high) = all.fold((f64::MAX, 0f64), |(low, high), x| (low.min(x), high.max(x)));
    let slowest = points.iter().map(|p| p.rate).fold(peak / 100.0, f64::min);
    let (left, right) = (low / 2.0, high * 4.0);
    let bottom = slowest.min(left * bandwidth) / 2.0;
    svg((860, 440), |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(format!("Roofline of {device}"), ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d((left..right).log_scale(), (bottom..peak * 2.0).log_scale())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc("FLOP a byte of HBM")
            .y_desc("TFLOP/s")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{:.1}", 1e-12 * y))
            .draw()
            .map_err(failed)?;
        let roof = [(left, left * bandwidth), (ridge, peak), (right, peak)];
        chart
            .draw_series(LineSeries::new(roof, BLACK.stroke_width(2)))
            .map_err(failed)?
            .label(format!("HBM {:.0} GB/s, MXU {:.0} TFLOP/s", 1e-9 * bandwidth, 1e-12 * peak))
            .legend(|(x, y)| PathElement::new([(x, y), (x + 12, y)], BLACK.stroke_width(2)));
        for (i, point) in points.iter().enumerate() {
            let color = Palette99::pick(i).to_rgba();
            let (least, copied) = ((point.least, point.rate), (point.copied, point.rate));
            chart.draw_series([PathElement::new([copied, least], color)]).map_err(failed)?;
            chart.draw_series([Circle::new(least, 5, color)]).map_err(failed)?;
            chart
                .draw_series([Circle::new(copied, 5, color.filled())])
                .map_err(failed)?
                .label(point.name.as_str())
                .legend(move |(x, y)| Circle::new((x + 6, y), 5, color.filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()
            .map_err(failed)
    })
}

/// A line a region, and in it a bar a unit: the share of its slots in which the unit is busy. The busiest is darker.
pub(crate) fn utilization(regions: &[Region]) -> Result<String> {
    const LINE: u32 = 30;
    let height = 60 + LINE * regions.len() as u32;
    svg((860, height), |area| {
        let names = |y: &f64| {
            let middle = (y.fract() - 0.5).abs() < 1e-6;
            regions.get(*y as usize).filter(|_| middle).map_or(String::new(), |r| format!("{:#x}", r.first))
        };
        let units = |x: &f64| {
            let middle = (x.fract() - 0.5).abs() < 1e-6;
            STRIP.get(*x as usize).filter(|_| middle).map_or(String::new(), |unit| unit.name().to_owned())
        };
        let mut chart = ChartBuilder::on(area)
            .margin(5)
            .x_label_area_size(25)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..STRIP.len() as f64, regions.len() as f64..0.0)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .x_labels(2 * STRIP.len() + 1)
            .y_labels(2 * regions.len() + 1)
            .x_label_formatter(&units)
            .y_label_formatter(&names)
            .draw()
            .map_err(failed)?;
        for (line, region) in regions.iter().enumerate() {
            let (top, bottom) = (line as f64 + 0.15, line as f64 + 0.85);
            for (column, unit) in STRIP.into_iter().enumerate() {
                let left = column as f64 + 0.05;
                let bar = |share: f64| [(left, top), (left + 0.9 * share, bottom)];
                let color =
                    if unit == region.bound() { RGBColor(178, 60, 30) } else { RGBColor(70, 120, 180) };
                let bars = [
                    Rectangle::new(bar(1.0), RGBColor(235, 235, 235).filled()),
                    Rectangle::new(bar(region.busy(unit).min(1.0)), color.filled()),
                ];
                chart.draw_series(bars).map_err(failed)?;
            }
        }
        Ok(())
    })
}
