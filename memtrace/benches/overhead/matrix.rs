//! All slow-downs at a glance: a row for each tool, a column for each workload.

use crate::{peers::rows::SLOW_DOWN, render::slow_down, results::Results};

/// What it is called.
pub const TITLE: &str = "Slow-down by the clock on the wall, medians";

/// Its lines, the first with the names of the workloads; `None` where nothing was compared.
pub fn lines(results: &Results) -> Option<Vec<Vec<String>>> {
    let compared =
        results.rows.iter().filter_map(|row| Some((row.group.strip_prefix(SLOW_DOWN)?, row)));
    let (mut workloads, mut tools) = (Vec::new(), Vec::new());
    for (workload, row) in compared.clone() {
        keep(&mut workloads, workload);
        keep(&mut tools, row.name.as_str());
    }
    let median = |tool: &str, workload: &str| {
        let found = compared.clone().find(|(of, row)| *of == workload && row.name == tool);
        found.map_or_else(|| "-".to_owned(), |(_, row)| slow_down(row.median))
    };
    let line = |tool: &&str| {
        let cells = workloads.iter().map(|workload| median(tool, workload));
        std::iter::once((*tool).to_owned()).chain(cells).collect()
    };
    let head = std::iter::once("").chain(workloads.iter().copied()).map(str::to_owned).collect();
    let lines: Vec<_> = std::iter::once(head).chain(tools.iter().map(line)).collect();
    (lines.len() > 1).then_some(lines)
}

fn keep<'a>(names: &mut Vec<&'a str>, name: &'a str) {
    if !names.contains(&name) {
        names.push(name);
    }
}
