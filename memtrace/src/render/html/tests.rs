//! What is on the page is what is in the report, whatever the names are.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    column::tests::{added, numbers},
    write,
};
use crate::{
    model::{site::Amount, stack::Frame},
    report::{Report, sample},
};

fn page(report: &Report) -> String {
    let mut out = Vec::new();
    write(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

/// The frames of each site's stack, leaf first, as a page reads them.
fn stacks(data: &Value) -> Vec<Vec<String>> {
    let tree = |column: &str| numbers(&data["tree"][column]).into_iter();
    let names = numbers(&data["frames"]["function"]);
    let name = |frame: u64| data["strings"][names[frame as usize] as usize].as_str().unwrap();
    let mut nodes = tree("frame");
    let mut callees: BTreeMap<Option<u64>, Vec<u64>> = BTreeMap::new();
    let mut path: Vec<u64> = Vec::new();
    let mut stack = |(up, down): (u64, u64)| {
        path.truncate(path.len() - up as usize);
        for node in nodes.by_ref().take(down as usize) {
            let known = callees.entry(path.last().copied()).or_default();
            if node & 1 == 1 {
                known.push(node >> 1);
            }
            let place = if node & 1 == 1 { known.len() - 1 } else { (node >> 1) as usize };
            path.push(known[place]);
        }
        path.iter().rev().map(|frame| name(*frame).to_owned()).collect()
    };
    let stacks = tree("up").zip(tree("down")).map(&mut stack).collect();
    assert_eq!(nodes.next(), None);
    stacks
}

/// By names, leaf first.
type ByStack<T> = BTreeMap<Vec<String>, T>;

fn expected<T>(report: &Report, of: impl Fn(&crate::report::SiteReport) -> T) -> ByStack<T> {
    let names = |site: &crate::report::SiteReport| {
        let frames = site.stack.frames.iter().map(|frame| frame.function.clone());
        let root = site.stack.missing_root.iter().map(|label| label.to_string());
        [site.function.to_owned()].into_iter().chain(frames).chain(root).collect()
    };
    report.sites.iter().map(|site| (names(site), of(site))).collect()
}

fn amounts(column: &Value) -> Vec<Amount> {
    let counts = numbers(&column["count"]);
    let pair = |(bytes, count)| Amount::new(bytes, count);
    numbers(&column["bytes"]).into_iter().zip(counts).map(pair).collect()
}

fn plus(amount: Amount, difference: Amount) -> Amount {
    let bytes = added(amount.bytes, difference.bytes);
    Amount::new(bytes, added(amount.count, difference.count))
}

#[test]
fn every_site_is_there_with_its_stack_and_its_survivors() {
    for report in [sample::leaking(), sample::python(), sample::lossy(), sample::idle()] {
        let data = data(&page(&report));
        let read: ByStack<Amount> =
            stacks(&data).into_iter().zip(amounts(&data["sites"]["never_freed"])).collect();
        assert_eq!(read, expected(&report, |site| site.survivors.amount));
    }
}

#[test]
fn amounts_that_are_kept_as_differences_add_up() {
    let report = sample::lossy();
    let data = data(&page(&report));
    let of = |name: &str| amounts(&data["sites"][name]);
    let (never_freed, allocated) = (of("never_freed"), of("allocated"));
    let mut read = ByStack::new();
    for (at, stack) in stacks(&data).into_iter().enumerate() {
        let live = plus(never_freed[at], of("live")[at]);
        let mut gone = allocated[at];
        gone -= live;
        let freed = plus(gone, of("freed")[at]);
        let peak = plus(live, of("peak")[at]);
        read.insert(stack, [live, allocated[at], freed, peak, of("temporary")[at]]);
    }
    let expected = expected(&report, |site| {
        let stats = &site.stats;
        let [peak, temporary] = [site.at_peak, site.temporary].map(Option::unwrap_or_default);
        [stats.live, stats.allocated, stats.freed, peak, temporary]
    });
    assert_eq!(read, expected);
}

#[test]
fn births_are_those_of_the_survivors() {
    let report = sample::leaking();
    let data = data(&page(&report));
    let column = numbers(&data["sites"]["births"]);
    let mut rest = &column[..];
    let mut read = ByStack::new();
    for stack in stacks(&data) {
        let (births, others) = rest[1..].split_at(3 * rest[0] as usize);
        rest = others;
        let mut bin = 0;
        let birth = |numbers: &[u64]| {
            bin += numbers[0];
            (bin, Amount::new(numbers[1], numbers[2]))
        };
        read.insert(stack, births.chunks(3).map(birth).collect::<Vec<_>>());
    }
    assert_eq!(rest, [0; 0]);
    let birth = |birth: &crate::report::Birth| (u64::from(birth.bin), birth.amount);
    assert_eq!(read, expected(&report, |site| site.births.iter().map(birth).collect()));
}

#[test]
fn a_group_tells_how_its_sites_came_to_be() {
    let report = sample::python();
    let data = data(&page(&report));
    let first = &data["groups"][0];
    assert_eq!(first["pattern"], "5 steps of 20.0 MiB, one every 6.0 s");
    let site = first["site"].as_u64().unwrap() as usize;
    assert!(stacks(&data)[site].iter().any(|name| name == "ModelCache.load_model"));
}

#[test]
fn hostile_names_do_not_break_the_page() {
    let hostile = "</script><script>alert(1)</script><!--\u{2028}\x1b[2J\0&\u{202e}\"'";
    let mut report = sample::lossy();
    report.target.command = hostile.to_owned();
    report.target.command_line = vec![hostile.to_owned()];
    report.completeness.notes = vec![hostile.to_owned()];
    for site in &mut report.sites {
        let named = || Frame {
            function: hostile.to_owned(),
            module: hostile.to_owned(),
            file: Some(hostile.to_owned()),
            ..Frame::default()
        };
        site.stack.frames.iter_mut().for_each(|frame| *frame = Arc::new(named()));
    }
    let page = page(&report);
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script>").count(), 2);
    assert_eq!(page.matches("<!--").count(), 0);
    assert!(!page.contains("alert(1)<"));
    let data = data(&page);
    assert_eq!(data["target"]["command"], hostile);
    assert_eq!(data["completeness"]["notes"][0], hostile);
    let stacks = stacks(&data);
    assert!(stacks.iter().flatten().any(|name| name == hostile));
}

#[test]
fn equal_reports_give_equal_pages() {
    assert_eq!(page(&sample::leaking()), page(&sample::leaking()));
}
