use insta::assert_snapshot;
use quick_xml::{Reader, events::Event};

use super::*;
use crate::{
    diff::Diff,
    model::size::Units,
    render::text::{self, TextOptions},
};

const HOSTILE: &str = "</title></text><script>alert(1)</script>\x1b[2J\0;\u{202e}\n9 &--]]>\"'";

fn as_text(diff: &Diff, options: TextOptions) -> String {
    let mut out = Vec::new();
    text::diff::write(diff, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn as_folded(diff: &Diff) -> String {
    let mut out = Vec::new();
    folded::write(diff, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn as_svg(diff: &Diff) -> String {
    let mut out = Vec::new();
    flamegraph::write(diff, Units::Auto, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn as_html(diff: &Diff) -> String {
    let mut out = Vec::new();
    html::write(diff, Units::Auto, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn text_of_growth() {
    assert_snapshot!(as_text(&sample::rebuilt(), TextOptions::default()));
}

#[test]
fn text_of_shrinkage_on_a_narrow_terminal() {
    let options = TextOptions { width: Some(72), top: 1, ..TextOptions::default() };
    let text = as_text(&sample::shrunk(), options);
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(longest <= 72, "{longest}");
    assert_snapshot!(text);
}

#[test]
fn text_of_no_difference() {
    assert_snapshot!(as_text(&sample::same(), TextOptions::default()));
}

#[test]
fn folded_stacks_have_both_columns() {
    assert_snapshot!(as_folded(&sample::rebuilt()));
    let sums = |diff: &Diff| {
        as_folded(diff).lines().fold((0, 0), |(before, after), line| {
            let mut columns = line.rsplit(' ').map(|it| it.parse::<u64>().unwrap_or(0));
            let (second, first) = (columns.next().unwrap(), columns.next().unwrap());
            (before + first, after + second)
        })
    };
    let diff = sample::rebuilt();
    assert_eq!(sums(&diff), (diff.total.before.bytes, diff.total.after.bytes));
}

/// What inferno reads: its own differential flamegraph is made of the folded stacks.
#[test]
fn inferno_takes_the_folded_stacks() {
    let folded = as_folded(&sample::rebuilt());
    let mut out = Vec::new();
    let mut options = inferno::flamegraph::Options::default();
    inferno::flamegraph::from_lines(&mut options, folded.lines(), &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("load_weights"));
}

#[test]
fn every_frame_of_the_picture_says_and_shows_what_it_grew_by() {
    let svg = as_svg(&sample::rebuilt());
    for expected in ["What was never freed grew by", "red: grew, blue: shrank", "load_weights"] {
        assert!(svg.contains(expected), "{expected}");
    }
    let grown = svg.find("load_weights(Path const&amp;) (model.cc) +470.0 MiB").unwrap();
    let rect = &svg[grown..][svg[grown..].find("<rect").unwrap()..];
    assert!(rect[..rect.find("/>").unwrap()].contains("fill=\"rgb(255,"), "{}", &rect[..200]);
    assert!(as_svg(&sample::shrunk()).contains("(model.cc) -470.0 MiB"));
}

#[test]
fn where_there_is_nothing_it_is_said() {
    assert!(as_text(&sample::nothing(), TextOptions::default()).contains("In neither window"));
    assert!(
        as_svg(&sample::nothing()).contains("In neither window is anything that was never freed.")
    );
    assert_eq!(as_folded(&sample::nothing()), "");
    assert!(as_html(&sample::nothing()).contains("</html>"));
}

#[test]
fn equal_differences_give_equal_pages() {
    assert_eq!(as_html(&sample::rebuilt()), as_html(&sample::rebuilt()));
}

#[test]
fn the_page_asks_nobody_for_anything() {
    let page = as_html(&sample::rebuilt());
    for outside in ["src=", "@import", "fetch(", "XMLHttpRequest", "WebSocket", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // The background is a gradient of the picture itself.
    assert!(page.match_indices("url(").all(|(at, _)| page[at..].starts_with("url(#")));
}

#[test]
fn hostile_names_are_harmless_everywhere() {
    let diff = sample::hostile(HOSTILE);
    let texts =
        [as_text(&diff, TextOptions::default()), as_folded(&diff), as_svg(&diff), as_html(&diff)];
    for text in &texts {
        let is_harmless = |c: char| matches!(c, '\n' | '\t' | '\r') || !c.is_control();
        assert!(text.chars().all(is_harmless));
        assert!(!text.contains('\u{202e}'));
    }
    assert!(!texts[2].contains("<script>alert") && !texts[3].contains("<script>alert"));
    assert_eq!(texts[1].lines().count(), diff.sites.len());
    let mut reader = Reader::from_str(&texts[2]);
    reader.config_mut().check_end_names = true;
    while !matches!(reader.read_event().unwrap(), Event::Eof) {}
}
