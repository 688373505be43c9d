//! Several processes in one capture: workers that are forked while they are traced, and processes
//! that have nothing to do with each other.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use memtrace_tests::{
    attach::{Attach, Tracing},
    binary,
    lines::Lines,
    programs,
    report::{Amount, ProcessReport, Report},
    running::Running,
    target::Target,
};
use rustix::process::{Pid, Signal, kill_process};

const WORKERS: usize = 3;
const BLOCKS: u64 = 20;

fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).unwrap();
    kill_process(pid, signal).unwrap();
}

/// The numbers after the word.
fn pids(line: &str) -> Vec<u32> {
    line.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect()
}

fn process(report: &Report, pid: u32) -> &ProcessReport {
    report.processes.iter().find(|it| it.pid == pid).unwrap()
}

fn blocks(bytes: u64, count: u64) -> Amount {
    Amount { bytes: bytes * count, count }
}

/// A server and its workers, all followed.
struct Server {
    target: Target,
    workers: Vec<u32>,
    tracing: Tracing,
}

impl Server {
    fn start(arguments: &[&str], options: &[&str]) -> Self {
        let (workers, blocks) = (WORKERS.to_string(), BLOCKS.to_string());
        let mut all = vec![workers.as_str(), blocks.as_str()];
        all.extend(arguments);
        let mut target = Target::start("prefork", &all);
        let mut tracing = Attach::to(target.pid()).args(&["--follow-forks"]).args(options).armed();
        target.go();
        let workers = pids(&target.line());
        tracing.wait_until_it_follows(&workers);
        Self { target, workers, tracing }
    }

    fn work(&mut self) {
        for pid in &self.workers {
            send(*pid, Signal::USR1);
            assert_eq!(self.target.line(), format!("did {pid}"));
        }
    }

    fn end_workers(&self) {
        self.workers.iter().for_each(|pid| send(*pid, Signal::KILL));
    }
}

#[test]
fn every_worker_has_books_of_its_own() {
    let mut server = Server::start(&[], &[]);
    server.work();
    server.target.go();
    assert_eq!(server.target.line(), "freed");
    let parent = server.target.pid();
    let (workers, tracing) = (server.workers.clone(), server.tracing);
    let report = tracing.interrupt().report();
    workers.iter().for_each(|pid| send(*pid, Signal::KILL));
    assert_eq!(report.processes.len(), 1 + WORKERS);
    assert_eq!(process(&report, parent).live, blocks(500, BLOCKS - 1), "it freed one itself");
    assert_eq!(process(&report, parent).parent, None);
    for (number, pid) in (0..).zip(&workers) {
        let worker = process(&report, *pid);
        assert_eq!(worker.parent, Some(parent));
        assert_eq!(worker.live, blocks(1000, number + 1), "worker {number}");
        assert!(worker.complete && worker.unseen_ns.is_some() && worker.ended_ns.is_none());
        let inherited = worker.inherited.unwrap();
        assert_eq!(inherited.at_fork, blocks(500, BLOCKS), "what the parent freed later is theirs");
        assert_eq!(inherited.freed, blocks(500, number), "worker {number}");
        assert_eq!(worker.inherited_live.unwrap(), blocks(500, BLOCKS - number));
        let pages = worker.pages_after.unwrap();
        assert!(pages.pss_bytes <= pages.rss_bytes && pages.shared_bytes > 0, "{pages:?}");
    }
    let merged = report.sites_of("site_worker_kept").next().unwrap();
    assert_eq!(merged.stats.live, blocks(1000, 1 + 2 + 3), "merged over all workers");
    let freed = report.sites_of("site_worker_freed").next().unwrap();
    assert_eq!(freed.stats.freed, blocks(2000, 300));
    assert_eq!(report.completeness.forks, WORKERS as u64);
}

#[test]
fn a_capture_is_split_by_process_and_one_can_be_looked_at_alone() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("out");
    let mut target = Target::start("prefork", &["2", "4"]);
    let mut tracing = Attach::to(target.pid()).output(&prefix).args(&["--follow-forks"]).armed();
    target.go();
    let workers = pids(&target.line());
    tracing.wait_until_it_follows(&workers);
    for pid in &workers {
        send(*pid, Signal::USR1);
        target.line();
    }
    let whole = tracing.interrupt().report();
    workers.iter().for_each(|pid| send(*pid, Signal::KILL));
    let capture = prefix.with_extension("memtrace");
    let run = |options: &[&str]| {
        let mut command = Command::new(binary::memtrace());
        let output = command.arg("report").arg(&capture).args(options).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let report = |options: &[&str]| -> Report {
        let json = ["--format", "json"];
        serde_json::from_str(&run(&[options, &json].concat())).unwrap()
    };
    let again = report(&[]);
    assert_eq!(again.totals.heap.live, whole.totals.heap.live);
    assert_eq!(again.processes.len(), 3);
    let second = report(&["--process", &workers[1].to_string()]);
    assert_eq!(second.target.pid, workers[1]);
    assert_eq!(second.totals.heap.live, blocks(1000, 2));
    assert_eq!(second.sites_of("site_parent").count(), 0);
    let peak = report(&["--view", "peak"]);
    assert_eq!(peak.totals.heap.live, whole.totals.heap.live, "events are told apart, too");
    let folded = run(&["--format", "folded", "--by-process"]);
    let of_second = format!("prefork (pid {});", workers[1]);
    assert!(
        folded
            .lines()
            .any(|line| line.starts_with(&of_second) && line.contains("site_worker_kept")),
        "{folded}"
    );
    let text = run(&[]);
    assert!(text.contains("Processes: 3 traced") && text.contains("inherited"), "{text}");
}

#[test]
fn the_worker_that_leaks_is_named_with_its_line_of_python() {
    let mut command = Command::new("python3");
    command.arg(programs::python("prefork.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = Running::start(&mut command);
    let mut input = python.child().stdin.take().unwrap();
    let mut output = Lines::of(python.child().stdout.take().unwrap());
    output.find("ready").unwrap();
    let mut tracing = Attach::to(python.pid()).args(&["--follow-forks"]).armed();
    input.write_all(b"go\n").unwrap();
    let workers = pids(&output.find("workers").unwrap());
    tracing.wait_until_it_follows(&workers);
    for pid in &workers {
        send(*pid, Signal::USR1);
        output.find(&format!("did {pid}")).unwrap();
    }
    let report = tracing.interrupt().report();
    workers.iter().for_each(|pid| send(*pid, Signal::KILL));
    drop(input);
    let most = report.processes.iter().max_by_key(|it| it.survivors.bytes).unwrap();
    assert_eq!(most.pid, workers[1]);
    assert!(most.survivors.bytes >= 40 * 300_000, "{most:?}");
    let top = most.top.as_ref().unwrap();
    assert_eq!(top.function.as_deref(), Some("keep"), "{top:?}");
    assert!(top.file.as_ref().unwrap().ends_with("prefork.py"), "{top:?}");
    let first = &report.groups[0];
    assert_eq!(first.function.as_deref(), Some("keep"), "also over all processes");
    assert!(report.summary[0].contains(&workers[1].to_string()), "{:?}", report.summary);
}

#[test]
fn a_worker_that_is_killed_keeps_its_place_in_the_report() {
    let mut server = Server::start(&[], &[]);
    server.work();
    server.end_workers();
    for pid in &server.workers {
        while std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|it| !it.contains(") Z "))
        {
            std::thread::yield_now();
        }
    }
    let workers = server.workers.clone();
    let report = server.tracing.interrupt().report();
    for (number, pid) in (0..).zip(&workers) {
        let worker = process(&report, *pid);
        assert_eq!(worker.live, blocks(1000, number + 1));
        assert!(worker.pages_after.is_none());
    }
}

#[test]
fn a_program_that_a_worker_executes_is_traced() {
    let program = programs::path("forker");
    let mut server = Server::start(&[program.to_str().unwrap()], &[]);
    server.work();
    send(server.workers[0], Signal::USR2);
    let line = server.target.line();
    assert!(line.contains("ready"), "the new program has begun: {line}");
    let workers = server.workers.clone();
    let report = server.tracing.interrupt().report();
    workers.iter().for_each(|pid| send(*pid, Signal::KILL));
    assert_eq!(report.completeness.execs, 1);
    let worker = process(&report, workers[0]);
    assert_eq!(worker.inherited_live, Some(Amount::default()), "another program has nothing of it");
    assert_eq!(process(&report, workers[1]).live, blocks(1000, 2), "the others are as they were");
}

#[test]
fn a_storm_of_short_children_is_counted_and_bounded() {
    let mut target = Target::start("fork_storm", &["100"]);
    let tracing = Attach::to(target.pid()).args(&["--follow-forks"]).armed();
    target.go();
    assert_eq!(target.line(), "done");
    let report = tracing.interrupt().report();
    assert!(target.quit().success(), "the target was harmed");
    assert_eq!(report.completeness.forks, 100);
    let missed = &report.completeness.not_followed;
    let missed =
        missed.ended_early + missed.beyond_limit + missed.beyond_window + missed.refused_count;
    assert_eq!(missed + report.processes.len() as u64 - 1, 100, "each child is accounted for");
    assert_eq!(process(&report, target.pid()).live, blocks(12345, 1));
}

#[test]
fn children_that_are_there_already_are_followed_too() {
    let mut target = Target::start("prefork", &["2", "4"]);
    target.go();
    let workers = pids(&target.line());
    let mut tracing = Attach::to(target.pid()).args(&["--follow-forks"]).armed();
    tracing.wait_until_it_follows(&workers);
    for pid in &workers {
        send(*pid, Signal::USR1);
        target.line();
    }
    let report = tracing.interrupt().report();
    workers.iter().for_each(|pid| send(*pid, Signal::KILL));
    let second = process(&report, workers[1]);
    assert_eq!(second.live, blocks(1000, 2));
    assert_eq!(second.parent, Some(target.pid()));
    assert!(second.inherited.is_none(), "what it got before is not known");
}

#[test]
fn two_unrelated_processes_go_into_one_report() {
    let mut one = Target::start("forker", &["0"]);
    let mut other = Target::start("prefork", &["0", "7"]);
    let more = other.pid().to_string();
    let tracing = Attach::to(one.pid()).args(&["-p", &more]).armed();
    one.run();
    other.go();
    other.line();
    let report = tracing.interrupt().report();
    assert_eq!(report.processes.len(), 2);
    assert_eq!(process(&report, other.pid()).live, blocks(500, 7));
    assert_eq!(process(&report, one.pid()).live, Amount::default());
    assert!(one.quit().success() && other.quit().success(), "a target was harmed");
}

#[test]
fn of_several_pids_the_wrong_one_is_named() {
    let mut target = Target::start("forker", &["0"]);
    let finished = Attach::to(target.pid()).args(&["-p", "2147480000"]).run();
    assert_eq!(finished.status.code(), Some(2));
    assert!(finished.stderr.contains("no process 2147480000"), "{}", finished.stderr);
    target.run();
    assert!(target.quit().success(), "the target was harmed");
}
