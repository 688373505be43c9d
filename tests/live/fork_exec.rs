//! Forks and execs in the target are survived, and said.

use memtrace_tests::{attach::Attach, target::Target, truth::assert_complete};

use crate::trace;

#[test]
fn children_are_counted_but_not_followed() {
    let (truth, report) = trace("forker", &["5"], &[]);
    assert_eq!(report.completeness.forks, 5);
    assert_eq!(report.completeness.execs, 0);
    truth.assert_same_heap(&report);
    assert_eq!(report.sites_of("site_child").count(), 0);
}

#[test]
fn an_exec_discards_what_was_live_and_the_new_program_is_followed() {
    let mut target = Target::start("execer", &[]);
    let tracing = Attach::to(target.pid()).armed();
    let first = target.run();
    let second = target.run();
    let report = tracing.interrupt().report();
    assert!(target.quit().success(), "the new program was harmed");
    assert_eq!((report.completeness.execs, report.completeness.forks), (1, 0));
    let live = first.sites[0].stats.live;
    assert_eq!(report.completeness.discarded_by_exec, live);
    let kept = report.sites_of("site_second_kept").next().expect("the new program is traced");
    assert_eq!(kept.stats.live, second.sites[0].stats.live);
    let gone = report.sites_of("site_first_kept").next().expect("the old program's sites stay");
    assert_eq!((gone.stats.allocated, gone.stats.live.count), (live, 0));
}

#[test]
fn the_text_report_mentions_forks_and_execs() {
    for (program, arguments, word) in
        [("forker", ["2"].as_slice(), "fork"), ("execer", &[], "exec")]
    {
        let mut target = Target::start(program, arguments);
        let tracing = Attach::to(target.pid()).text().armed();
        target.run();
        if program == "execer" {
            target.run();
        }
        let finished = tracing.interrupt();
        assert!(finished.stdout.contains(word), "{}", finished.stdout);
    }
}

#[test]
fn a_fork_does_not_make_the_trace_incomplete() {
    let (_, report) = trace("forker", &["1"], &[]);
    assert_complete(&report);
}
