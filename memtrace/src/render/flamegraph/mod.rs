//! The bytes of the report's view as a flamegraph: an SVG that zooms and searches in any browser, offline.

mod cut;
mod palette;

use std::io;

use inferno::flamegraph::{
    self, Direction, Options, TextTruncateDirection, color::BackgroundColor,
};

use crate::{
    model::{
        size::{self, Units},
        stack::Language,
    },
    render::estimate,
    report::{Estimate, GrowthReport, GrowthView, Report, View},
};

use self::cut::Lines;
use super::label::{clean, who};

/// Kinds of loss that the subtitle has room for.
const LOSSES: usize = 4;

/// How to draw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlamegraphOptions {
    /// From the allocation functions at the top down to their callers.
    pub inverted: bool,
    /// Of the sizes in the title.
    pub units: Units,
}

/// Writes the SVG. Where nothing weighs anything it is one that says so.
///
/// # Errors
/// Those of the writer.
pub fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    write_with(report, FlamegraphOptions::default(), out)
}

/// The same with options.
///
/// # Errors
/// Those of the writer.
pub fn write_with(
    report: &Report,
    with: FlamegraphOptions,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let mut options = options();
    let Lines { lines, sources } = Lines::of(report, with.inverted, options.min_width);
    if lines.is_empty() {
        return write_empty(report, with, out);
    }
    let mut palette = palette::of(&sources);
    options.title = title(report, with.units);
    options.subtitle = Some(subtitle(report));
    options.palette_map = Some(&mut palette);
    if with.inverted {
        options.direction = Direction::Inverted;
    }
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), out)
}

/// What does not depend on the report.
fn options<'a>() -> Options<'a> {
    let mut options = Options::default();
    options.count_name = "bytes".to_owned();
    options.name_type = "Frame:".to_owned();
    options.deterministic = true;
    options.no_sort = true;
    options.bgcolors = Some(BackgroundColor::Grey);
    options.text_truncate_direction = TextTruncateDirection::Right;
    options
}

fn title(report: &Report, units: Units) -> String {
    let weight = report.weight();
    if let Some(growth) = report.growth.filter(|_| report.view == View::NeverFreed) {
        return growth_title(report, growth, units);
    }
    if report.view == View::Trapped {
        return trapped_title(report, units);
    }
    format!(
        "{}: {} {} {}",
        clean(&who(report)),
        estimate::blocks(weight, units),
        in_window(report.view),
        size::duration_ns(report.window.duration_ns),
    )
}

fn trapped_title(report: &Report, units: Units) -> String {
    let who = clean(&who(report));
    format!("{who}: free memory trapped: {}", estimate::trapped(report.weight(), units))
}

fn growth_title(report: &Report, growth: GrowthReport, units: Units) -> String {
    let weight = report.weight();
    let size = units.bytes(weight.bytes);
    let what = match growth.view {
        GrowthView::AddressSpace => format!("{size} growth of address space"),
        GrowthView::Resident => {
            let error = units.bytes(Estimate::of(weight).error_bytes);
            format!("{size} \u{b1} {error} growth of resident memory")
        }
    };
    let (command, pid) = (clean(&report.target.command), report.target.pid);
    format!("{command} (pid {pid}): {what} in {}", size::duration_ns(report.window.duration_ns))
}

fn subtitle(report: &Report) -> String {
    let part = match &report.selection[..] {
        [] => String::new(),
        what => format!("only what was {}; ", clean(&what.join(", "))),
    };
    let python = if shows_python(report) { "; Python in yellow" } else { "" };
    format!("{part}{}; {}{python}", meaning(report), losses(report))
}

/// Goes before the length of the window.
fn in_window(view: View) -> String {
    match view {
        View::Live => format!("{} of", view.label()),
        view => format!("{} in", view.label()),
    }
}

/// What the widths are.
fn meaning(report: &Report) -> String {
    let age = match report.window.min_age_ns {
        0 => String::new(),
        age => format!(", age >= {}", size::duration_ns(age)),
    };
    match (report.growth.map(|growth| growth.view), report.view) {
        (Some(GrowthView::AddressSpace), View::NeverFreed) => {
            return format!("who made address space grow that was not given back{age}");
        }
        (Some(GrowthView::Resident), View::NeverFreed) => {
            return format!("who used pages first that were not given back{age}, estimated");
        }
        _ => {}
    }
    match report.view {
        View::NeverFreed => format!("allocated and not freed in the window{age}"),
        View::Live => "allocated and not freed in the window, of any age".to_owned(),
        View::Allocated => "allocated in the window, freed or not".to_owned(),
        View::Freed => "allocated and freed in the window".to_owned(),
        View::Peak => "live when all stacks together had the most".to_owned(),
        View::Temporary => {
            "freed by the thread that allocated it before it allocated anything else".to_owned()
        }
        View::Resident => {
            format!("allocated and not freed in the window{age}: only what is in memory")
        }
        View::Trapped => {
            "widths are free bytes on pages that live blocks of these stacks keep".to_owned()
        }
    }
}

fn shows_python(report: &Report) -> bool {
    let shown = report.sites.iter().filter(|site| site.weight(report.view).bytes > 0);
    shown.flat_map(|site| &site.stack.frames).any(|it| it.language == Language::Python)
}

fn losses(report: &Report) -> String {
    let completeness = &report.completeness;
    if completeness.complete {
        return "complete: no event was lost".to_owned();
    }
    let loss =
        |loss: &crate::report::LossReport| format!("{} {}", loss.name, size::count(loss.count));
    let shown: Vec<_> = completeness.losses.iter().take(LOSSES).map(loss).collect();
    let more = match completeness.losses.len().saturating_sub(LOSSES) {
        0 => String::new(),
        more => format!(" and {more} more kinds"),
    };
    format!("INCOMPLETE, lost: {}{more}", shown.join(", "))
}

/// inferno's answer to no input is an error message; nothing never freed is no error.
fn write_empty(
    report: &Report,
    with: FlamegraphOptions,
    out: &mut impl io::Write,
) -> io::Result<()> {
    write_sentence([&title(report, with.units), &subtitle(report), &nothing(report)], out)
}

/// A picture of a title, a subtitle and a sentence.
pub(super) fn write_sentence(texts: [&str; 3], out: &mut impl io::Write) -> io::Result<()> {
    let text = |y: u32, size: u32, text: &str| {
        format!("<text x=\"600\" y=\"{y}\" font-size=\"{size}\">{}</text>\n", escape(text))
    };
    writeln!(
        out,
        "<?xml version=\"1.0\" standalone=\"no\"?>\n\
         <svg version=\"1.1\" width=\"1200\" height=\"120\" viewBox=\"0 0 1200 120\" \
         xmlns=\"http://www.w3.org/2000/svg\" font-family=\"monospace\" text-anchor=\"middle\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#eeeeee\"/>\n{}{}{}</svg>",
        text(28, 17, texts[0]),
        text(52, 12, texts[1]),
        text(88, 14, texts[2]),
    )
}

fn nothing(report: &Report) -> String {
    let age = match report.window.min_age_ns {
        0 => String::new(),
        age => format!(" at an age of {} or more", size::duration_ns(age)),
    };
    match report.view {
        View::NeverFreed => {
            format!("Nothing that was allocated in this window was still live at its end{age}.")
        }
        view => format!("Nothing was {} in this window.", view.label()),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use quick_xml::{Reader, events::Event};

    use super::*;
    use crate::report::sample;

    fn svg(report: &Report) -> String {
        let mut out = Vec::new();
        write(report, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Every rectangle of a frame as (first byte, bytes, y), or a panic where the XML is broken.
    fn frames(svg: &str) -> Vec<(u64, u64, u64)> {
        let mut reader = Reader::from_str(svg);
        reader.config_mut().check_end_names = true;
        let mut frames = Vec::new();
        let mut depth = 0;
        loop {
            match reader.read_event().unwrap() {
                Event::Start(_) => depth += 1,
                Event::End(_) => depth -= 1,
                Event::Empty(tag) => {
                    let value = |name: &str| {
                        let attribute = tag.try_get_attribute(name).unwrap()?;
                        String::from_utf8(attribute.value.into_owned()).unwrap().parse().ok()
                    };
                    if let (Some(x), Some(width)) = (value("fg:x"), value("fg:w")) {
                        frames.push((x, width, value("y").unwrap()));
                    }
                }
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(depth, 0);
        frames
    }

    #[test]
    fn widths_are_the_never_freed_bytes() {
        let report = sample::leaking();
        let frames = frames(&svg(&report));
        let bottom = frames.iter().map(|(_, _, y)| *y).max().unwrap();
        let on_bottom = frames.iter().filter(|(_, _, y)| *y == bottom);
        assert_eq!(
            on_bottom.map(|(_, width, _)| width).sum::<u64>(),
            report.totals.survivors.bytes
        );
        let roots: u64 =
            frames.iter().filter(|(_, _, y)| *y == bottom - 16).map(|(_, width, _)| width).sum();
        // The frame of 333 bytes is too narrow to be drawn; its root is shared with another.
        assert_eq!(roots, report.totals.survivors.bytes);
    }

    #[test]
    fn the_picture_names_the_process_the_window_and_what_was_lost() {
        let complete = svg(&sample::leaking());
        for expected in [
            "model-server (pid 4242): 535.0 MiB in 55 blocks never freed in 30.0 s",
            "age &gt;= 10.0 s; complete: no event was lost",
            "Model::load_weights(Path const&amp;) (model.cc:42) (492,830,720 bytes, 87.85%)",
            "[no frame pointer]",
        ] {
            assert!(complete.contains(expected), "{expected}");
        }
        assert!(svg(&sample::lossy()).contains("INCOMPLETE, lost: ring_full 5,321, sites_full 7"));
    }

    #[test]
    fn python_frames_have_a_colour_of_their_own_that_the_subtitle_names() {
        let with_python = svg(&sample::python());
        assert!(with_python.contains("ModelCache.load_model (model_server.py:88)"));
        assert!(with_python.contains("Python in yellow"));
        assert!(!svg(&sample::leaking()).contains("Python in yellow"));
    }

    #[test]
    fn equal_reports_give_equal_pictures() {
        assert_eq!(svg(&sample::leaking()), svg(&sample::leaking()));
    }

    #[test]
    fn without_survivors_the_picture_says_so() {
        for report in [sample::tidy(), sample::idle()] {
            let svg = svg(&report);
            assert_eq!(frames(&svg), []);
            assert!(svg.contains("Nothing that was allocated"), "{svg}");
        }
    }

    #[test]
    fn hostile_names_do_not_break_the_document() {
        let hostile = "</text><script>alert(1)</script>\x1b[2J\0;\u{ffff}&--]]>\"'";
        for mut report in [sample::leaking(), sample::tidy()] {
            report.target.command = hostile.to_owned();
            for site in &mut report.sites {
                let mut frame = (*site.stack.frames[0]).clone();
                (frame.function, frame.module) = (hostile.to_owned(), hostile.to_owned());
                frame.file = Some(hostile.to_owned());
                site.stack.frames[0] = frame.into();
            }
            let svg = svg(&report);
            frames(&svg);
            assert!(!svg.contains("<script>alert"));
            assert!(!svg.contains(['\x1b', '\0', '\u{ffff}']));
        }
    }
}
