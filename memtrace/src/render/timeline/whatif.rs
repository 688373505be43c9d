//! The heap over time under each allocator and setting, and what the target really had.

use std::io;

use plotters::prelude::*;

use super::{
    CANVAS, Drawn, HEAD, LEFT, LEGEND_CHARACTER, axis::Axis, chart, line::Line, text, with_style,
    write_text,
};
use crate::whatif::result::{Row, WhatIf};

/// Of lines, told apart on light and dark grounds; they begin anew after the last.
const COLOURS: [RGBColor; 12] = [
    RGBColor(56, 132, 244),
    RGBColor(226, 87, 46),
    RGBColor(38, 154, 92),
    RGBColor(147, 97, 240),
    RGBColor(207, 138, 0),
    RGBColor(0, 158, 170),
    RGBColor(214, 64, 130),
    RGBColor(120, 130, 20),
    RGBColor(150, 90, 60),
    RGBColor(90, 110, 190),
    RGBColor(110, 160, 60),
    RGBColor(180, 110, 180),
];

/// What the target had.
const REAL: RGBColor = RGBColor(128, 128, 128);

/// Height of a line of the legend.
const LEGEND_LINE: i32 = 18;

/// Where the legend begins.
const LEGEND_TOP: i32 = 61;

/// Writes the SVG.
///
/// # Errors
/// Those of the writer.
pub fn write(result: &WhatIf, out: &mut impl io::Write) -> io::Result<()> {
    let mut svg = String::new();
    let backend = SVGBackend::with_string(&mut svg, CANVAS);
    draw(result, &backend.into_drawing_area()).map_err(io::Error::other)?;
    out.write_all(with_style(&svg).as_bytes())
}

fn lines(result: &WhatIf) -> Vec<Line> {
    let of_row = |(index, row): (usize, &Row)| Line {
        label: row.name.clone(),
        colour: COLOURS[index % COLOURS.len()],
        points: row.samples.clone(),
        of_walks: false,
    };
    let real = Line {
        label: "really".to_owned(),
        colour: REAL,
        points: result.target.heap_over_time.clone(),
        of_walks: true,
    };
    let mut lines: Vec<Line> = result.variants.iter().enumerate().map(of_row).collect();
    lines.push(real);
    lines.retain(|line| !line.points.is_empty());
    lines
}

fn draw(result: &WhatIf, canvas: &super::Area) -> Drawn {
    let lines = lines(result);
    let (head, body) = canvas.split_vertically(HEAD + LEGEND_LINE as u32);
    let title = format!("{} (pid {}): the heap under other allocators", result.command, result.pid);
    write_text(&head, &title, 12, 17)?;
    write_text(&head, &result.summary, 36, 13)?;
    draw_legend(&lines, &head)?;
    match lines.is_empty() {
        true => write_text(&body, "Nothing could be replayed.", 20, 15)?,
        false => draw_chart(&lines, &body)?,
    }
    canvas.present().map_err(text)
}

fn draw_legend(lines: &[Line], head: &super::Area) -> Drawn {
    let (mut left, mut top) = (LEFT, LEGEND_TOP);
    for line in lines {
        let width = 28 + LEGEND_CHARACTER * line.label.chars().count() as i32 + 20;
        if left + width > CANVAS.0 as i32 {
            (left, top) = (LEFT, top + LEGEND_LINE);
        }
        let key =
            PathElement::new([(left, top + 7), (left + 22, top + 7)], line.colour.stroke_width(3));
        head.draw(&key).map_err(text)?;
        let style = ("sans-serif", 13).into_font().color(&BLACK);
        let label = crate::render::label::clean(&line.label);
        head.draw(&Text::new(label, (left + 28, top), style)).map_err(text)?;
        left += width;
    }
    Ok(())
}

fn draw_chart(lines: &[Line], body: &super::Area) -> Drawn {
    chart::of_lines(lines, &Axis::time(lines), &Axis::bytes(0, lines), body).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_line_for_each_replay_and_one_for_what_was_real() {
        let mut svg = Vec::new();
        let mut result = crate::whatif::result::tests::result();
        result.variants[1].name = "<b>".to_owned();
        write(&result, &mut svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        for words in ["jemalloc", "really", "&lt;b&gt;", "instead of 580.0 MiB"] {
            assert!(svg.contains(words), "no {words} in {svg}");
        }
        assert!(!svg.contains("mimalloc"));
    }

    #[test]
    fn without_replays_the_chart_says_so() {
        let mut svg = Vec::new();
        write(&WhatIf::default(), &mut svg).unwrap();
        assert!(String::from_utf8(svg).unwrap().contains("Nothing could be replayed"));
    }
}
