//! What a person does with the page, and what it then shows.

use memtrace::{
    model::{
        cost::{Cost, SettingChange},
        site::Amount,
        size::{bytes, count},
    },
    report::{Report, SiteReport, ThreadShare},
};
use memtrace_tests::browser::Browser;

use super::{assert_calm, opened, scenario, text};

/// Never freed bytes of the sites that are meant.
fn kept(report: &Report, is_meant: impl Fn(&SiteReport) -> bool) -> u64 {
    report.sites.iter().filter(|site| is_meant(site)).map(|site| site.survivors.amount.bytes).sum()
}

fn has_frame(site: &SiteReport, part: &str) -> bool {
    site.stack.frames.iter().any(|frame| {
        let file = frame.file.as_deref().unwrap_or_default();
        [&*frame.function, &*frame.module, file].iter().any(|name| name.contains(part))
    })
}

/// Clicks on the row of the flamegraph below this many others, at a share of its width.
fn click_in_flame(browser: &mut Browser, row: usize, share: f64) {
    let [x, y, width, _] = browser.show("#flame-canvas");
    browser.click_at((x + width * share, y + 20.0 * row as f64 + 10.0));
}

fn is_zoomed(browser: &mut Browser) -> bool {
    browser.eval("document.querySelector('#flame-reset').disabled") == false
}

/// Functions of the rows of the table of sites.
fn rows(browser: &mut Browser) -> Vec<String> {
    let names = "[...document.querySelectorAll('#site-rows td.where button')]\
                 .map((it) => it.firstChild.textContent)";
    serde_json::from_value(browser.eval(names)).unwrap()
}

#[test]
fn the_flamegraph_zooms_by_mouse_and_by_keys() {
    let report = scenario::model_server();
    let mut browser = opened(&report, "zoom.html");
    assert!(!is_zoomed(&mut browser));
    // Below "all" and the seven frames that all stacks share: deploy, reload, ...
    click_in_flame(&mut browser, 8, 0.75);
    assert!(is_zoomed(&mut browser));
    let detail = text(&mut browser, "#flame-detail");
    let reload = bytes(kept(&report, |site| has_frame(site, "reload")));
    assert!(detail.starts_with("reload") && detail.contains(&reload), "{detail}");
    // The click gave it the focus.
    browser.key("Escape");
    assert!(!is_zoomed(&mut browser));
    // The cursor appears on what is zoomed to, and goes down to the widest each time.
    (0..=8).for_each(|_| browser.key("ArrowDown"));
    assert!(text(&mut browser, "#flame-detail").starts_with("deploy"));
    browser.key("ArrowRight");
    assert!(text(&mut browser, "#flame-detail").starts_with("reload"));
    browser.key("Enter");
    assert!(is_zoomed(&mut browser));
    browser.click("#flame-reset");
    assert!(!is_zoomed(&mut browser));
    assert_calm(browser);
}

#[test]
fn searching_says_what_share_matches() {
    let report = scenario::model_server();
    let mut browser = opened(&report, "search.html");
    browser.key("/");
    browser.type_text("umath|Resize");
    let matched = kept(&report, |site| has_frame(site, "umath") || has_frame(site, "Resize"));
    let share = matched as f64 * 100.0 / report.totals.survivors.bytes as f64;
    let expected = format!("matched {} ({share:.1} %)", bytes(matched));
    assert_eq!(text(&mut browser, "#flame-matched"), expected);
    browser.type_text("(");
    assert_eq!(text(&mut browser, "#flame-matched"), "not a regular expression");
    browser.key("Escape");
    assert_eq!(text(&mut browser, "#flame-matched"), "");
    assert_calm(browser);
}

#[test]
fn inverted_the_flamegraph_begins_at_the_allocation_functions() {
    let report = scenario::model_server();
    let mut browser = opened(&report, "invert.html");
    browser.click("#flame-invert");
    browser.eval("document.querySelector('#flame-box').focus()");
    (0..2).for_each(|_| browser.key("ArrowDown"));
    let detail = text(&mut browser, "#flame-detail");
    let calloc = bytes(kept(&report, |site| site.function == "calloc"));
    assert!(detail.starts_with("calloc") && detail.contains(&calloc), "{detail}");
    for colour in ["age", "language", "module"] {
        let before = browser.text("document.querySelector('#flame-canvas').toDataURL()");
        browser.eval(&format!(
            "(() => {{ const it = document.querySelector('#flame-colour'); it.value = {colour:?}; \
             it.dispatchEvent(new Event('change')); }})()"
        ));
        let after = browser.text("document.querySelector('#flame-canvas').toDataURL()");
        assert_ne!(before, after, "{colour}");
    }
    assert_calm(browser);
}

#[test]
fn sites_are_sorted_filtered_and_opened() {
    let report = scenario::model_server();
    let mut browser = opened(&report, "sites.html");
    let names = |key: fn(&memtrace::report::GroupReport) -> std::cmp::Reverse<u64>| {
        let mut groups: Vec<_> = report.groups.iter().collect();
        groups.sort_by_key(|group| key(group));
        groups.iter().filter_map(|it| it.function.clone()).collect::<Vec<_>>()
    };
    let by_bytes = names(|group| std::cmp::Reverse(group.survivors.amount.bytes));
    assert_eq!(rows(&mut browser), by_bytes);
    browser.click("#site-head [data-sort=count]");
    let by_count = names(|group| std::cmp::Reverse(group.survivors.amount.count));
    assert_ne!(by_count, by_bytes);
    assert_eq!(rows(&mut browser), by_count);
    browser.click("#site-head [data-sort=where]");
    assert!(rows(&mut browser).is_sorted_by_key(|name| name.to_lowercase()));
    browser.click("#site-filter");
    browser.type_text("deflateinit");
    assert_eq!(rows(&mut browser), ["compress_features"]);
    browser.click("#site-rows button");
    let stack = text(&mut browser, "#site-rows .stack");
    let site = report.sites.iter().find(|site| has_frame(site, "deflateInit2_")).unwrap();
    let frames = site.stack.frames.iter().map(|frame| &frame.function);
    frames.for_each(|function| assert!(stack.contains(function.as_str()), "{function}: {stack}"));
    assert_eq!(text(&mut browser, "#site-rows .key").split(' ').next(), Some("compress_features"));
    assert_calm(browser);
}

/// What was obtained in these bins and never freed.
fn born(site: &SiteReport, bins: std::ops::Range<u32>) -> (u64, u64) {
    let births = site.births.iter().filter(|birth| bins.contains(&birth.bin));
    births.fold((0, 0), |(size, blocks), birth| {
        (size + birth.amount.bytes, blocks + birth.amount.count)
    })
}

#[test]
fn a_selected_window_shows_only_what_was_obtained_in_it() {
    let report = scenario::model_server();
    let mut browser = opened(&report, "window.html");
    let all = text(&mut browser, "#site-sum");
    // Pages are a tenth of the 60 bins: from 12 to 24.
    for (edge, key, times) in [("from", "PageUp", 2), ("until", "PageDown", 6)] {
        browser.eval(&format!("document.querySelector('[data-edge={edge}]').focus()"));
        (0..times).for_each(|_| browser.key(key));
    }
    let sum = report.sites.iter().map(|site| born(site, 12..24));
    let (size, blocks) = sum.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    let amount = format!("{} in {} blocks", bytes(size), count(blocks));
    let selection = text(&mut browser, "#selection-text");
    assert!(
        selection.contains("From 12.0 s to 24.0 s") && selection.contains(&amount),
        "{selection}"
    );
    assert!(text(&mut browser, "#site-sum").starts_with(&amount));
    let models = report.sites.iter().filter(|site| has_frame(site, "ModelCache.load_model"));
    let models = bytes(models.map(|site| born(site, 12..24).0).sum());
    assert_eq!(text(&mut browser, "#site-rows .bytes b"), models);
    browser.eval("document.querySelector('#flame-box').focus()");
    browser.key("ArrowDown");
    let detail = text(&mut browser, "#flame-detail");
    assert!(detail.contains(&amount), "{detail}");
    browser.click("#selection-clear");
    assert_eq!(text(&mut browser, "#site-sum"), all);
    let [x, y, width, height] = browser.show("#time-chart svg");
    let at = |share: f64| (x + width * share, y + height / 2.0);
    browser.drag(&[at(0.3), at(0.4), at(0.5)]);
    assert!(text(&mut browser, "#selection-text").starts_with("From "));
    assert_ne!(text(&mut browser, "#site-sum"), all);
    assert_calm(browser);
}

#[test]
fn names_of_the_target_stay_text() {
    let hostile = "</script><script>hacked = 1</script><img src=x onerror=hacked=1>\u{202e}";
    let mut report = scenario::lossy();
    report.target.command = hostile.to_owned();
    report.completeness.notes = vec![hostile.to_owned()];
    for site in &mut report.sites {
        for frame in &mut site.stack.frames {
            let file = Some(hostile.to_owned());
            let (function, module) = (hostile.to_owned(), hostile.to_owned());
            *frame = memtrace::model::stack::Frame { function, module, file, ..(**frame).clone() }
                .into();
        }
    }
    let mut browser = opened(&report, "hostile.html");
    browser.click("#site-rows button");
    let [x, y, width, _] = browser.show("#flame-canvas");
    browser.hover((x + width / 2.0, y + 50.0));
    assert_eq!(browser.eval("typeof hacked"), "undefined");
    assert_eq!(browser.eval("document.images.length"), 0);
    let shown = text(&mut browser, "#title");
    assert!(shown.starts_with(&hostile.replace('\u{202e}', "?")), "{shown}");
    assert_calm(browser);
}

/// How many cells of the first map are shown among pale ones; nothing where none is pale.
fn shown_cells(browser: &mut Browser) -> String {
    browser.text("document.querySelector('#heap canvas').dataset.pins")
}

fn picture(browser: &mut Browser) -> String {
    browser.text("document.querySelector('#heap canvas').toDataURL()")
}

#[test]
fn who_keeps_free_memory_is_shown_in_the_map_by_mouse_by_keys_and_by_touch() {
    let report = scenario::with_pins();
    let mut browser = opened(&report, "pins.html");
    let rows = text(&mut browser, "#pins");
    assert!(rows.contains("open_session (pusher.py:31)") && rows.contains("7.0 MiB"), "{rows}");
    assert!(rows.contains("3 cells in 1 arena"), "{rows}");
    let all = picture(&mut browser);
    let [x, y, width, height] = browser.show("#pins tr");
    browser.hover((x + width / 2.0, y + height / 2.0));
    assert_eq!(shown_cells(&mut browser), "2");
    assert_ne!(picture(&mut browser), all);
    let [x, y, ..] = browser.show("#heap-head");
    browser.hover((x + 1.0, y + 1.0));
    assert_eq!((shown_cells(&mut browser), picture(&mut browser)), (String::new(), all.clone()));
    browser.eval("document.querySelectorAll('#pins button')[1].focus()");
    assert_eq!(shown_cells(&mut browser), "3");
    browser.key("Enter");
    browser.eval("document.activeElement.blur()");
    assert_eq!(shown_cells(&mut browser), "3", "what is chosen stays");
    browser.click("#pins button[aria-pressed=true]");
    browser.eval("document.activeElement.blur()");
    assert_eq!(picture(&mut browser), all);
    browser.resize(390, 844, true);
    browser.click("#pins button");
    assert_eq!(shown_cells(&mut browser), "2");
    let wide = "[...document.querySelectorAll('#heap *')].filter((it) => \
                it.getBoundingClientRect().right > innerWidth + 1).map((it) => it.className)";
    assert_eq!(browser.eval(wide), serde_json::json!([]));
    assert_calm(browser);
}

#[test]
fn who_keeps_the_arenas_of_python_is_listed_by_line() {
    let mut browser = opened(&scenario::with_arena_pins(), "arena-pins.html");
    let rows = text(&mut browser, "#arena-pins");
    assert!(rows.contains("open_session (pusher.py:31) 40 objects"), "{rows}");
    assert!(rows.contains("2.0 MiB") && rows.contains("1.0 MiB less without them"), "{rows}");
    assert!(rows.contains("before the window"), "{rows}");
    assert_calm(browser);
    let mut browser = opened(&scenario::with_pins(), "no-arena-pins.html");
    assert_eq!(browser.eval("document.querySelector('#arena-pins')"), serde_json::Value::Null);
}

#[test]
fn threads_are_listed_by_what_they_kept() {
    let mut report = scenario::model_server();
    let thread = |tid, name: &str, kept| ThreadShare {
        name: Some(name.to_owned()),
        survivors: Amount::one(kept),
        ..ThreadShare::none(tid)
    };
    report.threads = vec![thread(77, "<b>worker", 3 << 20), thread(78, "main", 1 << 20)];
    let mut browser = opened(&report, "threads.html");
    let rows = browser
        .eval("[...document.querySelectorAll('#threads tbody tr')].map((it) => it.textContent)");
    let rows: Vec<String> = serde_json::from_value(rows).unwrap();
    assert!(rows[0].starts_with("<b>worker (77)3.0 MiB"), "{rows:?}");
    assert!(rows[0].contains("75 %") && rows[1].contains("25 %"), "{rows:?}");
    assert_calm(browser);
}

#[test]
fn trapped_memory_is_a_view_of_the_flamegraph() {
    let report = scenario::with_pins();
    let mut browser = opened(&report, "trapped.html");
    browser.eval(
        "(() => { const it = document.querySelector('#view'); it.value = 'trapped'; \
         it.dispatchEvent(new Event('change')); })()",
    );
    browser.eval("document.querySelector('#flame-box').focus()");
    browser.key("ArrowDown");
    let detail = text(&mut browser, "#flame-detail");
    assert!(detail.contains("9.0 MiB by 6 blocks"), "{detail}");
    assert!(text(&mut browser, "#site-sum").starts_with("9.0 MiB by 6 blocks"));
    assert_calm(browser);
}

#[test]
fn without_events_the_page_has_no_threads() {
    let mut browser = opened(&scenario::model_server(), "no-threads.html");
    assert_eq!(browser.eval("document.querySelector('#threads').hidden"), true);
}

#[test]
fn a_change_of_the_setting_is_marked_and_said() {
    let mut report = scenario::model_server();
    let change = SettingChange {
        at_ns: report.window.duration_ns / 2,
        from: "every allocation".to_owned(),
        to: "every allocation, in short bursts".to_owned(),
        why: "it cost 31 %".to_owned(),
    };
    report.cost = Some(Cost { changes: vec![change], ..Cost::default() });
    let mut browser = opened(&report, "changes.html");
    let legend = text(&mut browser, "#time-legend");
    assert!(legend.contains("1 change of setting"), "{legend}");
    let title = browser.eval("document.querySelector('#time-chart .change title').textContent");
    let title = title.as_str().unwrap();
    assert!(
        title.contains("in short bursts, not every allocation, because it cost 31 %"),
        "{title}"
    );
    assert_calm(browser);
}
