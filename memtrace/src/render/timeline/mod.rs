//! RSS and what is in use, over time, as an SVG chart: lines that part are the answer.

mod axis;
mod change;
mod chart;
mod line;
pub mod whatif;

use std::io;

use plotters::prelude::*;

use self::{
    axis::Axis,
    line::{Line, lines},
};
use crate::{
    model::{size, timeline::PeakSource},
    report::Report,
};

use super::label::{clean, who};

/// Width and height in pixels; as wide as the flamegraph.
const CANVAS: (u32, u32) = (1200, 480);

/// Height of what is above the chart: title, verdict, legend.
const HEAD: u32 = 84;

/// Where texts of the head begin.
const LEFT: i32 = 20;

/// Characters of a line of text that have room.
const TEXT_COLUMNS: usize = 165;

/// Pixels that a character of the legend takes, about.
const LEGEND_CHARACTER: i32 = 7;

/// What colours do not say in the same way on light and dark grounds. Presentation attributes, as
/// plotters writes them, give way to style sheets.
const STYLE: &str = "<style>\
    :root{color-scheme:light dark}\
    .ground{fill:#ffffff}text{fill:#24292f}\
    [stroke=\"#000000\"]{stroke:#6e7781}\
    @media(prefers-color-scheme:dark){.ground{fill:#0d1117}text{fill:#d0d7de}\
    [stroke=\"#000000\"]{stroke:#8b949e}}\
    </style>\n<rect class=\"ground\" width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>\n";

/// Writes the SVG. Without samples it is one that says so.
///
/// # Errors
/// Those of the writer.
pub fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let mut svg = String::new();
    let backend = SVGBackend::with_string(&mut svg, CANVAS);
    draw(report, &backend.into_drawing_area()).map_err(io::Error::other)?;
    out.write_all(with_style(&svg).as_bytes())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), String>;

/// plotters' errors name the backend's type; their text is enough.
fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn draw(report: &Report, canvas: &Area) -> Drawn {
    let lines = lines(&report.timeline);
    let (head, body) = canvas.split_vertically(HEAD);
    draw_head(report, &lines, &head)?;
    if lines.is_empty() {
        write_text(&body, "There are no samples: the window was over at once.", 20, 15)?;
    } else {
        draw_chart(report, &lines, &body)?;
    }
    canvas.present().map_err(text)
}

/// The style sheet goes right behind the opening tag.
fn with_style(svg: &str) -> String {
    let at = svg.find("<svg").and_then(|tag| Some(tag + svg[tag..].find('>')? + 1)).unwrap_or(0);
    let (opening, rest) = svg.split_at(at);
    format!("{opening}\n{STYLE}{}\n", rest.trim())
}

fn draw_head(report: &Report, lines: &[Line], head: &Area) -> Drawn {
    write_text(head, &title(report), 12, 17)?;
    if let Some(verdict) = &report.verdict {
        write_text(head, &verdict.headline, 36, 13)?;
    }
    let mut left = LEFT;
    for line in lines {
        let key = PathElement::new([(left, 68), (left + 22, 68)], line.colour.stroke_width(3));
        head.draw(&key).map_err(text)?;
        let style = ("sans-serif", 13).into_font().color(&BLACK);
        head.draw(&Text::new(line.label.clone(), (left + 28, 61), style)).map_err(text)?;
        left += 28 + LEGEND_CHARACTER * line.label.chars().count() as i32 + 20;
    }
    Ok(())
}

fn title(report: &Report) -> String {
    format!(
        "{}: RSS {} to {} in {}",
        who(report),
        size::bytes(report.rss.start_bytes),
        size::bytes(report.rss.end_bytes),
        size::duration_ns(report.window.duration_ns),
    )
}

/// One line of text, cut to the canvas.
fn write_text(area: &Area, words: &str, top: i32, height: i32) -> Drawn {
    let words = clean(words);
    let shown: String = match words.chars().count() {
        0..=TEXT_COLUMNS => words,
        _ => words.chars().take(TEXT_COLUMNS - 3).chain("...".chars()).collect(),
    };
    let style = ("sans-serif", height).into_font().color(&BLACK);
    area.draw(&Text::new(shown, (LEFT, top), style)).map_err(text)
}

fn draw_chart(report: &Report, lines: &[Line], body: &Area) -> Drawn {
    let (time, bytes) = (Axis::time(lines), Axis::bytes(report.timeline.rss_peak_bytes, lines));
    let mut chart = chart::of_lines(lines, &time, &bytes, body)?;
    for mark in change::marks(report) {
        let x = time.place(mark.at_ns).min(time.end);
        let height = bytes.end * mark.height;
        let line = LineSeries::new([(x, 0.0), (x, height)], BLACK.mix(0.35));
        chart.draw_series(line).map_err(text)?;
        let label = Text::new(mark.label, label_place((x, height), &time, &bytes), {
            peak_style(x, &time)
        });
        chart.draw_series([label]).map_err(text)?;
    }
    let Some((peak, label)) = peak(report) else { return Ok(()) };
    let (x, y) = (time.place(peak.0), bytes.place(peak.1));
    let dot = Circle::new((x, y), 5, line::RSS.stroke_width(2));
    chart.draw_series([dot]).map_err(text)?;
    let label = Text::new(label, label_place((x, y), &time, &bytes), peak_style(x, &time));
    chart.draw_series([label]).map(drop).map_err(text)
}

/// Above the mark, which is the highest point there is: no line is in the way.
fn label_place((x, y): (f64, f64), time: &Axis, bytes: &Axis) -> (f64, f64) {
    let aside = time.end * 0.008;
    let x = if is_right(x, time) { x - aside } else { x + aside };
    (x, y + bytes.end * 0.02)
}

fn is_right(x: f64, time: &Axis) -> bool {
    x > time.end / 2.0
}

/// Towards the middle.
fn peak_style(x: f64, time: &Axis) -> TextStyle<'static> {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    let side = if is_right(x, time) { HPos::Right } else { HPos::Left };
    ("sans-serif", 13).into_font().color(&BLACK).pos(Pos::new(side, VPos::Bottom))
}

/// Where the highest RSS was, and how that is known.
fn peak(report: &Report) -> Option<((u64, u64), String)> {
    let timeline = &report.timeline;
    let how = match timeline.rss_peak_source? {
        PeakSource::Samples => "highest sample",
        PeakSource::HighWaterMark => "exact: VmHWM",
        PeakSource::ResetHighWaterMark => "exact: VmHWM, reset at the start",
    };
    let highest =
        timeline.samples.iter().max_by_key(|it| it.rss_peak_bytes.max(Some(it.rss_bytes)))?;
    let label = format!("peak {} ({how})", size::bytes(timeline.rss_peak_bytes));
    Some(((highest.at_ns, timeline.rss_peak_bytes), label))
}

#[cfg(test)]
mod tests;
