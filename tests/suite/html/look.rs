//! How it looks: on a desk, on a phone, in the dark.

use super::{artifacts, assert_calm, empty, opened, scenario, show, text, write};

const GROUND: &str = "getComputedStyle(document.body).backgroundColor";

#[test]
fn the_page_is_dark_where_that_is_wanted_and_where_it_is_switched_to() {
    let mut browser = opened(&scenario::model_server(), "model-server-dark.html");
    let light = browser.text(GROUND);
    browser.prefer_dark(true);
    browser.wait_for(&format!("{GROUND} !== {light:?}"));
    browser.screenshot(&artifacts().join("report-dark.png"), true);
    browser.click("#theme");
    assert_eq!(browser.text(GROUND), light);
    browser.prefer_dark(false);
    assert_eq!(browser.text(GROUND), light);
    browser.click("#theme");
    assert_ne!(browser.text(GROUND), light);
    assert_calm(browser);
}

#[test]
fn on_a_phone_nothing_is_wider_than_the_screen() {
    let mut browser = opened(&scenario::lossy(), "model-server-phone.html");
    browser.resize(390, 844, true);
    browser.wait_for("document.querySelector('#flame-canvas').clientWidth < 390");
    browser.click("#site-rows button");
    let wide = "[...document.querySelectorAll('main *, header *')].filter((it) => \
                it.getBoundingClientRect().right > innerWidth + 1).map((it) => it.className)";
    assert_eq!(browser.eval(wide), serde_json::json!([]));
    browser.screenshot(&artifacts().join("report-phone.png"), true);
    assert_calm(browser);
}

#[test]
fn what_is_lost_is_said_before_anything_else() {
    let report = scenario::lossy();
    let mut browser = opened(&report, "model-server-lossy.html");
    let first = "document.querySelector('main').firstElementChild.innerText";
    let said = browser.text(first);
    assert!(said.contains("events were lost"), "{said}");
    for loss in &report.completeness.losses {
        assert!(said.contains(&*loss.sentence), "{said}");
    }
    let notes = text(&mut browser, "#quality");
    assert!(notes.contains(&report.completeness.notes[0]), "{notes}");
    assert_calm(browser);
}

#[test]
fn the_first_screen_has_the_verdict_and_the_table_that_adds_up() {
    let report = scenario::model_server();
    let mut browser = opened(&report, "model-server.html");
    let verdict = report.verdict.as_ref().unwrap();
    let shown = text(&mut browser, "#verdict");
    assert!(shown.contains(&verdict.headline), "{shown}");
    verdict.evidence.iter().for_each(|it| assert!(shown.contains(&it.text), "{shown}"));
    verdict.remedies.iter().for_each(|it| assert!(shown.contains(&it.action), "{shown}"));
    let rows = browser.eval("document.querySelectorAll('#rss tbody tr').length");
    assert_eq!(rows, report.rss_table.as_ref().unwrap().rows.len());
    let stranded = text(&mut browser, "#heap");
    assert!(stranded.contains("stranded: no thread"), "{stranded}");
    browser.screenshot(&artifacts().join("report.png"), true);
    assert_calm(browser);
}

#[test]
fn a_window_without_anything_says_so() {
    let mut browser = opened(&scenario::nothing(), "nothing.html");
    assert_eq!(text(&mut browser, "#site-rows"), "Nothing never freed.");
    assert!(text(&mut browser, "#time-hint").starts_with("There are no samples"));
    assert!(text(&mut browser, "#heap").contains("It was not walked."));
    browser.eval("document.querySelector('#flame-box').focus()");
    for key in ["ArrowDown", "ArrowRight", "Enter", "Escape"] {
        browser.key(key);
    }
    browser.click("#flame-invert");
    assert_calm(browser);
}

#[test]
fn an_arena_that_has_a_map_is_drawn_by_it() {
    let file = write(&scenario::with_arena_map(), "cells.html");
    let mut browser = empty();
    show(&mut browser, &file);
    let label = "document.querySelector('#heap canvas').getAttribute('aria-label')";
    assert_eq!(browser.text(label), "130 cells of 4.0 KiB, by address");
    assert_eq!(browser.eval("document.querySelectorAll('#heap canvas').length"), 1);
    let point = "(() => { const canvas = document.querySelector('#heap canvas'); \
                 const { left, top } = canvas.getBoundingClientRect(); \
                 canvas.dispatchEvent(new MouseEvent('mousemove', { clientX: left + 2, clientY: top + 2 })); \
                 return canvas.title; })()";
    let title = browser.text(point);
    assert!(title.starts_with("0x7f0000000030 to 0x7f0000001000: in use 3.0 KiB"), "{title}");
    browser.show("#heap canvas");
    browser.screenshot(&artifacts().join("report-cells.png"), false);
    assert_calm(browser);
}
