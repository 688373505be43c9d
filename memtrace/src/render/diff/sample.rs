//! Differences for the tests of renderers.

use crate::{
    diff::{Diff, DiffOptions, Named},
    report::{Report, sample},
};

fn diff(before: &Report, after: &Report) -> Diff {
    let before = Named { name: "before.memtrace", report: before };
    let after = Named { name: "after.memtrace", report: after };
    Diff::of(before, after, DiffOptions::default())
}

/// A window and the same again.
pub(in crate::render) fn same() -> Diff {
    diff(&sample::leaking(), &sample::leaking())
}

/// Nothing at all.
pub(in crate::render) fn nothing() -> Diff {
    diff(&sample::idle(), &sample::idle())
}

/// The second is longer, of another build, lost events; a site has grown, another is gone, one is
/// new.
pub(in crate::render) fn rebuilt() -> Diff {
    diff(&without(0), &grown())
}

/// The other way round.
pub(in crate::render) fn shrunk() -> Diff {
    diff(&grown(), &without(0))
}

/// One of the sites that have never-freed blocks is not there.
fn without(site: usize) -> Report {
    let mut report = sample::leaking();
    report.sites.remove(site);
    report
}

fn grown() -> Report {
    let mut report = sample::lossy();
    report.window.duration_ns *= 3;
    report.window.started_at = "2026-03-05T00:00:00Z".to_owned();
    report.target.pid = 777;
    report.modules[0].build_id = Some("00ff".to_owned());
    for (site, more) in report.sites.iter_mut().zip([0, 5 << 20, 1 << 10]) {
        site.survivors.amount.bytes += more;
    }
    report.sites.remove(2);
    if let Some(table) = &mut report.rss_table {
        table.rows[0].resident_bytes += 7 << 20;
        table.rss_bytes += 7 << 20;
    }
    report
}

/// Every name is as a hostile program would choose it.
pub(in crate::render) fn hostile(name: &str) -> Diff {
    let mut report = grown();
    for site in &mut report.sites {
        for frame in &mut site.stack.frames {
            let mut named = (**frame).clone();
            (named.function, named.module) = (name.to_owned(), name.to_owned());
            named.file = Some(name.to_owned());
            *frame = named.into();
        }
    }
    report.target.command = name.to_owned();
    report.target.executable = name.to_owned();
    report.window.started_at = name.to_owned();
    let before = Named { name, report: &report };
    let after = sample::leaking();
    Diff::of(before, Named { name, report: &after }, DiffOptions::default())
}
