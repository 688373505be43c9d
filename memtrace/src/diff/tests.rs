use std::sync::Arc;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    model::stack::Frame,
    report::{Module, sample},
};

fn frame(function: &str, module: &str, source: Option<(&str, u32)>) -> Arc<Frame> {
    Arc::new(Frame {
        function: function.to_owned(),
        module: module.to_owned(),
        file: source.map(|(file, _)| file.to_owned()),
        line: source.map(|(_, line)| line),
        ..Frame::default()
    })
}

/// A report with these sites: frames and what was never freed.
fn report(sites: Vec<(Vec<Arc<Frame>>, u64, u64)>) -> Report {
    let site = |(frames, bytes, count)| {
        let mut site = sample::leaking().sites.swap_remove(0);
        site.key_frame = Some(0).filter(|_| !Vec::is_empty(&frames));
        site.stack = NamedStack { frames, missing_root: None };
        site.survivors.amount = Amount::new(bytes, count);
        site
    };
    Report { sites: sites.into_iter().map(site).collect(), ..sample::leaking() }
}

fn one(frame: Arc<Frame>, bytes: u64) -> Report {
    report(vec![(vec![frame], bytes, 1)])
}

fn diff_with(before: &Report, after: &Report, options: DiffOptions) -> Diff {
    let named = |name, report| Named { name, report };
    Diff::of(named("before", before), named("after", after), options)
}

fn diff(before: &Report, after: &Report) -> Diff {
    diff_with(before, after, DiffOptions::default())
}

fn growths(diff: &Diff) -> Vec<i64> {
    diff.sites.iter().map(|site| site.change.growth_bytes).collect()
}

#[test]
fn lines_that_moved_are_the_same_place_unless_lines_count() {
    let at = |line, bytes| one(frame("load", "app", Some(("/srv/a.c", line))), bytes);
    let (before, after) = (at(88, 1000), at(90, 1500));
    assert_eq!(growths(&diff(&before, &after)), [500]);
    let with_lines = DiffOptions { lines: true, ..DiffOptions::default() };
    assert_eq!(growths(&diff_with(&before, &after, with_lines)), [1500, -1000]);
}

#[test]
fn what_is_shown_of_a_place_is_the_second_capture() {
    let at = |line, bytes| one(frame("load", "app", Some(("/srv/a.c", line))), bytes);
    let diff = diff(&at(88, 1000), &at(90, 1500));
    assert_eq!(diff.sites[0].stack.frames[0].line, Some(90));
    assert_eq!(diff.groups[0].name.line, Some(90));
}

#[test]
fn a_group_of_several_lines_is_of_none() {
    let line = |line, bytes| (vec![frame("load", "app", Some(("/srv/a.c", line)))], bytes, 1);
    let caller = |number: u64| frame(&format!("caller_{number}"), "app", None);
    let mut after = report(vec![line(88, 10), line(90, 20)]);
    for (number, site) in (0..).zip(&mut after.sites) {
        site.stack.frames.push(caller(number));
    }
    let diff = diff(&report(vec![]), &after);
    assert_eq!((diff.groups.len(), diff.groups[0].sites), (1, 2));
    assert_eq!((diff.groups[0].name.line, diff.groups[0].change.growth_bytes), (None, 30));
}

#[test]
fn another_build_elsewhere_is_the_same_place() {
    let source = |path| Some((path, 1));
    let cases = [
        (
            frame("load", "app", source("/build/1/a.c")),
            frame("load", "app", source("/build/2/a.c")),
        ),
        (frame("load", "app", source("/srv/a.c")), frame("load", "app", None)),
        (frame("read", "libx.so.1.2", None), frame("read", "libx.so.1.3", None)),
        (frame("load.isra.0", "app", None), frame("load", "app", None)),
        (frame("[anon]+0x7f10", "[anon]", None), frame("[anon]+0x7a20", "[anon]", None)),
    ];
    for (before, after) in cases {
        assert_eq!(growths(&diff(&one(before.clone(), 7), &one(after, 9))), [2], "{before:?}");
    }
}

#[test]
fn functions_without_names_are_apart_in_one_build_and_together_across_builds() {
    let built = |offset: &str, build: &str| {
        let module = Module {
            path: "/srv/app".to_owned(),
            build_id: Some(build.to_owned()),
            ..Module::default()
        };
        let frame = frame(&format!("app+{offset}"), "app", None);
        Report { modules: vec![module], ..one(frame, 100) }
    };
    let before = built("0x10", "aa");
    assert_eq!(growths(&diff(&before, &built("0x20", "aa"))), [100, -100]);
    assert_eq!(growths(&diff(&before, &built("0x20", "bb"))), [0]);
}

#[test]
fn the_first_match_is_by_all_names() {
    let at = |path| frame("load", "app", Some((path, 1)));
    let before = report(vec![(vec![at("/a/x.c")], 1, 1), (vec![at("/b/x.c")], 2, 1)]);
    let after = report(vec![(vec![at("/a/x.c")], 11, 1), (vec![at("/c/x.c")], 22, 1)]);
    assert_eq!(growths(&diff(&before, &after)), [20, 10]);
}

#[test]
fn new_and_gone_are_what_only_one_side_has_in_the_view() {
    let place = |name| frame(name, "app", None);
    let before = report(vec![(vec![place("old")], 5, 1), (vec![place("idle")], 0, 0)]);
    let after = report(vec![(vec![place("young")], 6, 1), (vec![place("idle")], 0, 0)]);
    let diff = diff(&before, &after);
    let statuses: Vec<_> = diff.groups.iter().map(|group| group.change.status).collect();
    assert_eq!(statuses, [Status::New, Status::Gone]);
    assert_eq!((diff.count(Status::New), diff.count(Status::Unchanged)), (1, 0));
}

#[test]
fn every_view_is_compared() {
    for view in View::ALL {
        let in_view = || sample::leaking_input_in(view).build();
        let (mut before, after) = (in_view(), in_view());
        before.sites.truncate(1);
        let diff = diff(&before, &after);
        assert_eq!(diff.total.after, after.weight(), "{view:?}");
        assert!(diff.total.growth_bytes > 0, "{view:?}");
    }
}

#[test]
fn rows_of_rss_add_up_to_its_growth() {
    let before = sample::leaking();
    let mut after = sample::leaking();
    let table = after.rss_table.as_mut().unwrap();
    table.rows[0].resident_bytes += 4096;
    table.rss_bytes += 4096;
    let change = diff(&before, &after).rss_table.unwrap();
    assert_eq!(change.after_bytes - change.before_bytes, 4096);
    assert_eq!(change.rows[0].growth_bytes, 4096);
    assert_eq!(change.rows.iter().map(|row| row.growth_bytes).sum::<i64>(), 4096);
    after.rss_table = None;
    assert_eq!(diff(&before, &after).rss_table, None);
}

/// Few names, so that stacks meet; some are equal only at second sight.
fn any_frame() -> impl Strategy<Value = Arc<Frame>> {
    let functions = prop::sample::select(vec!["load", "load.isra.0", "get", "app+0x10", "put"]);
    let modules = prop::sample::select(vec!["app", "libx.so.1", "libx.so.2", "[anon]"]);
    let sources = prop::option::of((prop::sample::select(vec!["/a/x.c", "/b/x.c"]), 1..3_u32));
    (functions, modules, sources).prop_map(|(function, module, it)| frame(function, module, it))
}

fn any_report() -> impl Strategy<Value = Report> {
    let site = (vec(any_frame(), 0..4), 0..5_000_u64, 0..20_u64);
    vec(site, 0..12).prop_map(report)
}

fn any_options() -> impl Strategy<Value = DiffOptions> {
    let by = [GroupBy::Line, GroupBy::Function, GroupBy::Module, GroupBy::Stack];
    (prop::sample::select(by.to_vec()), any::<bool>())
        .prop_map(|(group_by, lines)| DiffOptions { group_by, lines })
}

/// What grew by how much, whatever the order.
fn sorted<'a>(changes: impl Iterator<Item = &'a Change>, sign: i64) -> Vec<(i64, i64)> {
    let mut all: Vec<_> =
        changes.map(|it| (sign * it.growth_bytes, sign * it.growth_count)).collect();
    all.sort_unstable();
    all
}

proptest! {
    #[test]
    fn a_report_and_itself_do_not_differ(report in any_report(), options in any_options()) {
        let diff = diff_with(&report, &report, options);
        let changes = diff.sites.iter().map(|it| &it.change);
        let mut all = changes.chain(diff.groups.iter().map(|it| &it.change)).chain([&diff.total]);
        prop_assert!(all.all(|it| it.status == Status::Unchanged && it.growth_bytes == 0));
        prop_assert!(diff.warnings.len() == 1, "{:?}", diff.warnings);
    }

    #[test]
    fn swapped_reports_differ_by_as_much_less(
        before in any_report(),
        after in any_report(),
        options in any_options(),
    ) {
        let (there, back) =
            (diff_with(&before, &after, options), diff_with(&after, &before, options));
        prop_assert_eq!(there.total.growth_bytes, -back.total.growth_bytes);
        let sites = |diff: &Diff, sign| sorted(diff.sites.iter().map(|it| &it.change), sign);
        prop_assert_eq!(sites(&there, 1), sites(&back, -1));
        let groups = |diff: &Diff, sign| sorted(diff.groups.iter().map(|it| &it.change), sign);
        prop_assert_eq!(groups(&there, 1), groups(&back, -1));
    }

    #[test]
    fn sites_and_groups_add_up_to_the_total(
        before in any_report(),
        after in any_report(),
        options in any_options(),
    ) {
        let diff = diff_with(&before, &after, options);
        let sum = |changes: Vec<&Change>| -> (u64, u64, i64) {
            changes.iter().fold((0, 0, 0), |(before, after, growth), it| {
                (before + it.before.bytes, after + it.after.bytes, growth + it.growth_bytes)
            })
        };
        let total = sum(vec![&diff.total]);
        prop_assert_eq!(sum(diff.sites.iter().map(|it| &it.change).collect()), total);
        prop_assert_eq!(sum(diff.groups.iter().map(|it| &it.change).collect()), total);
        prop_assert_eq!(total.0, before.weight().bytes);
    }
}
