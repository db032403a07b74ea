//! What the programs' reports share: SVG drawings and the style of a page.

use std::fmt::Display;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Style sheet of a page, without a reference to anything else.
pub const STYLE: &str = include_str!("style.css");

/// A drawing error without the borrow of what was drawn on.
pub fn failed(error: impl Display) -> anyhow::Error {
    anyhow!("plot: {error}")
}

/// An SVG of this width and height, white where `draw` draws nothing.
pub fn svg(
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<()>,
) -> Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    draw(&area)?;
    area.present().map_err(failed)?;
    drop(area);
    Ok(svg)
}
