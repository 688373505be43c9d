//! The chart as a document, and that nothing is drawn outside of it.

use proptest::prelude::*;
use quick_xml::{Reader, events::Event};

use super::*;
use crate::{
    model::timeline::{Timeline, TimelineSample},
    report::sample,
};

fn svg(report: &Report) -> String {
    let mut out = Vec::new();
    write(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The attributes that are coordinates, and all texts; panics where it is not well-formed.
fn contents(svg: &str) -> (Vec<(f64, f64)>, String) {
    let mut reader = Reader::from_str(svg);
    let (mut points, mut texts) = (Vec::new(), String::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) | Event::Empty(tag) => {
                for attribute in tag.attributes() {
                    let attribute = attribute.unwrap();
                    if attribute.key.as_ref() == b"points" {
                        let text = String::from_utf8(attribute.value.to_vec()).unwrap();
                        points.extend(text.split_whitespace().map(point));
                    }
                }
            }
            Event::Text(text) => texts.push_str(str::from_utf8(&text).unwrap()),
            Event::GeneralRef(name) => texts.push_str(str::from_utf8(&name).unwrap()),
            Event::Eof => return (points, texts),
            _ => {}
        }
    }
}

fn point(text: &str) -> (f64, f64) {
    let (x, y) = text.split_once(',').unwrap();
    (x.parse().unwrap(), y.parse().unwrap())
}

fn assert_inside(svg: &str) {
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    let (points, _) = contents(svg);
    let (width, height) = (f64::from(CANVAS.0), f64::from(CANVAS.1));
    for (x, y) in points {
        assert!((0.0..=width).contains(&x) && (0.0..=height).contains(&y), "{x},{y}\n{svg}");
    }
}

#[test]
fn the_chart_names_its_lines_its_units_and_its_peak() {
    let svg = svg(&sample::leaking());
    assert_inside(&svg);
    let (points, texts) = contents(&svg);
    assert!(points.len() > 60, "two lines of 31 samples");
    for words in [
        "model-server (pid 4242): RSS 1.2 GiB to 1.7 GiB in 30.0 s",
        "Leak: memory in use explains",
        "live, allocated in the window",
        "heap resident",
        "in use",
        "free but trapped",
        "MiB",
        "peak 1.8 GiB (exact: VmHWM)",
    ] {
        assert!(texts.contains(words), "{words} is not in {texts}");
    }
    assert!(svg.contains("prefers-color-scheme:dark"));
}

#[test]
fn a_reservation_is_cut_and_that_is_said() {
    let mut report = sample::leaking();
    report.timeline.samples[30].live_bytes = Some(64 << 40);
    let svg = svg(&report);
    assert_inside(&svg);
    assert!(contents(&svg).1.contains("cut: up to 64.0 TiB, not touched"), "{svg}");
}

#[test]
fn without_samples_the_chart_says_so() {
    let mut report = sample::idle();
    report.timeline = Timeline::default();
    assert!(contents(&svg(&report)).1.contains("There are no samples"));
}

#[test]
fn hostile_names_do_not_break_the_document() {
    let mut report = sample::leaking();
    report.target.command =
        "</text><script>alert(1)</script>\x1b[2J\0;\u{ffff}&--]]>\"'".to_owned();
    let svg = svg(&report);
    assert_inside(&svg);
    assert!(!svg.contains("<script") && !svg.contains(['\x1b', '\0', '\u{ffff}']));
}

#[test]
fn equal_reports_give_equal_charts() {
    assert_eq!(svg(&sample::leaking()), svg(&sample::leaking()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_point_is_outside_whatever_the_values(
        mut values in prop::collection::vec(
            (any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>()), 0..40),
        peak in any::<u64>(),
        scale in 0_u32..64,
    ) {
        values.sort_unstable();
        let samples = values.into_iter().map(|(at, rss, live, trapped)| TimelineSample {
            at_ns: at >> scale,
            rss_bytes: rss >> scale,
            rss_peak_bytes: None,
            live_bytes: live.map(|it| it >> (scale / 2)),
            in_use_bytes: trapped,
            heap_resident_bytes: None,
            trapped_bytes: trapped.map(|it| it >> scale),
        });
        let mut report = sample::leaking();
        report.timeline = Timeline {
            samples: samples.collect(),
            rss_peak_bytes: peak >> scale,
            rss_peak_source: Some(PeakSource::Samples),
            cgroup_peak_bytes: None,
        };
        assert_inside(&svg(&report));
    }
}
