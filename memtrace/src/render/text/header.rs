//! Who was traced, and whether its memory grew.

use crate::{
    model::{
        footprint::GrowthProbes,
        site::Amount,
        size::{Units, duration_ns},
    },
    render::{
        estimate,
        label::{end_reason, place, plural, who},
    },
    report::{AllocatorReport, AllocatorTotals, GrowthReport, PythonReport, Report, Rss, Totals},
};

use super::{
    incident,
    page::{Page, Style, cut},
    rss_table, verdict,
};

/// What is shown of the command line: those of some servers fill screens.
const COMMAND_COLUMNS: usize = 160;

pub(super) fn write(page: &mut Page, report: &Report) {
    page.prose(Some(Style::Strong), 0, &title(report));
    incident::write(page, &report.incident);
    if let Some(selection) = selection(&report.selection) {
        page.prose(Some(Style::Warning), 0, &selection);
    }
    for (label, text) in estimate::explanations(report, page.units()) {
        page.field(label, &text);
    }
    rss_table::write(page, report);
    match &report.verdict {
        Some(verdict) => verdict::write(page, verdict),
        None if report.rss_table.is_some() => page.gap(),
        None => {}
    }
    if let Some(place) = place(&report.place, page.units()) {
        page.field("container", &place);
    }
    page.field("command", &command(&report.target.command_line));
    for allocator in &report.target.allocators {
        page.field("allocator", &allocator_line(allocator));
    }
    for (index, totals) in report.allocators.iter().enumerate() {
        let label = if index == 0 { "served by" } else { "" };
        page.field(label, &allocator_totals(totals, page.units()));
    }
    if let Some(python) = &report.target.python {
        page.field("Python", &python_line(python));
    }
    page.field("RSS", &rss(report.rss, page.units()));
    match &report.growth {
        None => page.field("live", &live(&report.totals, page.units())),
        Some(growth) => page.field("probes", growth_probes(growth)),
    }
    let is_one = report.processes.is_empty();
    let says_more = report.verdict.is_none() || report.growth.is_some() || !is_one;
    if says_more && !report.summary.is_empty() {
        page.gap();
        report.summary.iter().for_each(|sentence| page.prose(None, 0, sentence));
    }
    if !report.completeness.complete {
        page.prose(Some(Style::Warning), 0, "Events were lost: see INCOMPLETE below.");
    }
}

fn growth_probes(growth: &GrowthReport) -> &'static str {
    match growth.probes {
        GrowthProbes { in_program: true, .. } => {
            "growth: where the process makes system calls, and at new pages in the kernel"
        }
        GrowthProbes { at_functions: true, .. } => {
            "growth: at functions of the kernel; nothing in the process"
        }
        _ => "growth: at tracepoints of the kernel; nothing in the process",
    }
}

/// On one line, also where an argument is a whole script.
fn command(command_line: &[String]) -> String {
    let words = command_line.iter().flat_map(|argument| argument.split_whitespace());
    cut(&words.collect::<Vec<_>>().join(" "), COMMAND_COLUMNS)
}

/// Said before anything else: all that follows is of this part.
fn selection(what: &[String]) -> Option<String> {
    let (last, others) = what.split_last()?;
    let others = match others {
        [] => String::new(),
        others => format!("{} and ", others.join(", ")),
    };
    Some(format!("Only what was {others}{last}."))
}

fn title(report: &Report) -> String {
    format!(
        "{}, traced for {} from {}, {}",
        who(report),
        duration_ns(report.window.duration_ns),
        report.window.started_at,
        end_reason(report.window.ended_by),
    )
}

fn allocator_line(allocator: &AllocatorReport) -> String {
    let version = allocator.version.as_ref().map(|version| format!(" {version}"));
    let probes = allocator.probes.len() as u64;
    format!(
        "{}{} ({}), {probes} function{} probed",
        allocator.name,
        version.unwrap_or_default(),
        allocator.path,
        plural(probes),
    )
}

fn allocator_totals(totals: &AllocatorTotals, units: Units) -> String {
    format!(
        "{}: {} live of {} allocated, {} never freed",
        totals.name,
        estimate::bytes(totals.live, units),
        estimate::bytes(totals.allocated, units),
        estimate::bytes(totals.survivors, units),
    )
}

fn python_line(python: &PythonReport) -> String {
    let version = python.version.as_deref().unwrap_or("of unknown version");
    let refused =
        python.refused.as_ref().map(|reason| format!("; its frames are missing: {reason}"));
    format!("{version} ({}){}", python.path, refused.unwrap_or_default())
}

fn rss(rss: Rss, units: Units) -> String {
    let delta = i128::from(rss.end_bytes) - i128::from(rss.start_bytes);
    let delta = i64::try_from(delta).unwrap_or(if delta < 0 { i64::MIN } else { i64::MAX });
    format!(
        "{} -> {} ({}), peak {}",
        units.bytes(rss.start_bytes),
        units.bytes(rss.end_bytes),
        units.signed_bytes(delta),
        units.bytes(rss.peak_bytes)
    )
}

/// What was allocated in the window and is still there, whatever its age.
fn live(totals: &Totals, units: Units) -> String {
    let grown = |live: Amount, unit: &str| {
        format!(
            "{} in {} {unit}{}",
            estimate::grown(live, units),
            estimate::blocks_count(live),
            plural(live.count)
        )
    };
    let own = match totals.allocator_mappings.live.bytes {
        0 => String::new(),
        own => format!("; the allocator itself mapped +{}", units.bytes(own)),
    };
    let arenas = match totals.pymalloc_arenas.live {
        Amount { count: 0, .. } => String::new(),
        live => format!("; Python's small objects {}", grown(live, "arena")),
    };
    let mappings = match totals.mappings.live.count {
        0 => String::new(),
        _ => format!(", mappings {}", grown(totals.mappings.live, "range")),
    };
    format!("heap {}{mappings}{own}{arenas}", grown(totals.heap.live, "block"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arenas_of_small_objects_are_shown_apart() {
        let mut totals = Totals::default();
        totals.pymalloc_arenas.live = Amount::new(3 << 20, 3);
        let expected = "heap +0 B in 0 blocks; Python's small objects +3.0 MiB in 3 arenas";
        assert_eq!(live(&totals, Units::Auto), expected);
    }

    #[test]
    fn what_was_selected_is_one_sentence() {
        let what =
            ["obtained by thread 7", "allocated on stacks that match /x/"].map(str::to_owned);
        let sentence = selection(&what).unwrap();
        assert_eq!(
            sentence,
            "Only what was obtained by thread 7 and allocated on stacks that match /x/."
        );
        assert_eq!(selection(&[]), None);
    }

    #[test]
    fn a_script_on_the_command_line_is_shown_on_one_line() {
        let words = ["python3", "-c", "import time\nwhile True:\n\ttime.sleep(1)", "  "];
        let shown = command(&words.map(str::to_owned));
        assert_eq!(shown, "python3 -c import time while True: time.sleep(1)");
    }
}
