//! Bytes over time as lines in a chart with axes.

use plotters::{coord::types::RangedCoordf64, prelude::*};

use super::{
    Area,
    axis::{self, Axis},
    line::Line,
    text,
};

/// A chart whose lines are drawn, for what else belongs into it.
pub(super) type Chart<'a, 's> =
    ChartContext<'a, SVGBackend<'s>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws axes and lines.
pub(super) fn of_lines<'a, 's>(
    lines: &[Line],
    time: &Axis,
    bytes: &Axis,
    body: &Area<'s>,
) -> Result<Chart<'a, 's>, String> {
    let mut chart = ChartBuilder::on(body)
        .margin_left(14)
        .margin_right(30)
        .margin_top(14)
        .x_label_area_size(42)
        .y_label_area_size(76)
        .build_cartesian_2d(0.0..time.end, 0.0..bytes.end)
        .map_err(text)?;
    chart
        .configure_mesh()
        .x_desc(time.unit)
        .y_desc(bytes.unit)
        .x_label_formatter(&axis::number)
        .y_label_formatter(&axis::number)
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(BLACK.mix(0.0))
        .label_style(("sans-serif", 13))
        .draw()
        .map_err(text)?;
    for line in lines {
        let points = line.points.iter().map(|point| (time.place(point.0), bytes.place(point.1)));
        let series = LineSeries::new(points, line.colour.stroke_width(2));
        let dots = if line.of_walks { 3 } else { 0 };
        chart.draw_series(series.point_size(dots)).map_err(text)?;
    }
    Ok(chart)
}
