//! What a watch says: for people on stderr, for programs a line of JSON each on stdout.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
};

use serde_json::{Value, json};

use super::store::Store;
use crate::{
    cmd::output::say,
    metrics::{Board, ServeError, WatchBoard, serve},
    model::size::{bytes, duration_ns},
    session::watch::{Event, Subject, WatchObserver, WatchOptions},
    sys::preserve::Preserved,
    watch::status::{Status, TargetStatus},
};

/// Targets that a status line tells one by one.
const MOST_TARGETS: usize = 5;

/// See the module.
pub struct Screen {
    quiet: bool,
    json: bool,
    metrics: Option<WatchBoard>,
}

impl Screen {
    /// Without a word if `quiet`; JSON is the result, and goes out all the same.
    pub fn new(quiet: bool, json: bool) -> Self {
        Self { quiet, json, metrics: None }
    }

    /// Puts the state on a board, too, that is served at this address.
    pub fn serve(&mut self, address: SocketAddr) -> Result<(), ServeError> {
        let board = Board::default();
        let address = serve(address, board.clone())?.address();
        self.metrics = Some(WatchBoard::new(board));
        self.say(&format!("metrics at http://{address}/metrics"));
        Ok(())
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            say(format_args!("{text}"));
        }
    }

    /// The first screen: what will fire, what happens then, and what memtrace itself takes.
    pub fn begin(&self, options: &WatchOptions, store: &Store, own: &Preserved) {
        let conditions: Vec<String> = options.conditions.iter().map(ToString::to_string).collect();
        let duration = duration_ns(options.duration.as_nanos() as u64);
        self.say(&format!("watching {}", subject(&options.subject)));
        self.say(&format!(
            "fires when {}; or when it is killed for want of memory",
            conditions.join(" or ")
        ));
        let then = match options.follow {
            true => "what was traced since the start is kept",
            false => "the process that grows, or the largest, is traced",
        };
        self.say(&format!(
            "then {then}, for up to {duration}; again after {}",
            duration_ns(options.cool_down.as_nanos() as u64)
        ));
        let allowance = store.allowance();
        self.say(&format!(
            "captures: {}, the latest {}, at most {} together ({} free)",
            store.directory().join("memtrace-watch-*").display(),
            allowance.captures,
            bytes(allowance.bytes),
            bytes(store.free_bytes())
        ));
        self.say(&footprint(own));
        self.line("begin", || {
            json!({
                "subject": subject(&options.subject), "conditions": conditions,
                "directory": store.directory(), "keep": allowance.captures,
                "max_disk_bytes": allowance.bytes, "reserved_bytes": own.reserved_bytes,
                "locked": own.not_locked.is_none(), "oom_score_adj": own.oom_score_adj,
            })
        });
    }

    /// A reader that went away is no reason to stop watching.
    fn line(&self, event: &str, value: impl FnOnce() -> Value) {
        if !self.json {
            return;
        }
        let mut value = value();
        value["event"] = event.into();
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{value}").and_then(|()| out.flush());
    }
}

fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Process(pid) => format!("process {pid}"),
        Subject::Command(name) => format!("every process called {name}"),
        Subject::Group(group) => format!("control group {}", group.name()),
    }
}

fn footprint(own: &Preserved) -> String {
    let locked = match &own.not_locked {
        None => "locked".to_owned(),
        Some(error) => format!("NOT locked ({error})"),
    };
    let killed = match &own.not_lowered {
        None => "is killed last".to_owned(),
        Some(error) => format!("can be killed as others (oom_score_adj: {error})"),
    };
    format!(
        "memtrace itself: {} of heap ready, memory {locked}, {killed}",
        bytes(own.reserved_bytes)
    )
}

impl WatchObserver for Screen {
    fn happened(&mut self, event: Event<'_>) {
        match event {
            Event::Watching { targets, no_announcements } => {
                self.watching(&targets, no_announcements)
            }
            Event::Appeared(title) => self.tell("appeared", &format!("{title} is there"), title),
            Event::Gone(title) => self.tell("gone", &format!("{title} has gone"), title),
            Event::Fired(fired, pid, duration) => {
                let duration_ns = duration.as_nanos() as u64;
                self.say(&format!(
                    "FIRED: {} by {}: {}; {}",
                    fired.condition,
                    fired.watched,
                    bytes(fired.rss_bytes),
                    captured(pid, duration_ns)
                ));
                self.line(
                    "fired",
                    || json!({"fired": fired, "pid": pid, "duration_ns": duration_ns}),
                );
            }
            Event::Ready { pid, duration, is_news } => {
                let duration_ns = duration.as_nanos() as u64;
                if is_news {
                    let took = self::duration_ns(duration_ns);
                    self.say(&format!("ready to trace {} at once, after {took}", whom(pid)));
                }
                self.line("ready", || json!({"pid": pid, "duration_ns": duration_ns}));
            }
            Event::NotReady { pid, reason } => {
                self.say(&format!(
                    "a capture of {} would have to be made ready first: {reason}",
                    whom(pid)
                ));
                self.line("not_ready", || json!({"pid": pid, "reason": reason}));
            }
            Event::NobodyToTrace(fired) => {
                self.say(&format!("FIRED: {}, but there is no process to trace", fired.condition));
                self.line("nobody", || json!({"fired": fired}));
            }
            Event::Taken(files) => {
                let names: Vec<String> = files.iter().map(|it| it.display().to_string()).collect();
                self.say(&format!("captured: {}", names.join(", ")));
                self.line("captured", || json!({"files": names}));
            }
            Event::Failed(error) => self.failed(error),
            Event::Killed(kill) => {
                self.say(&format!("KILLED for want of memory: {} ({})", kill.command, kill.pid));
                self.line("oom_kill", || json!({"oom_kill": kill}));
            }
            Event::Discontinuity(text) => self.tell("discontinuity", text, text),
            Event::Status(status) => self.status(status),
            Event::Looked(status) => {
                if let Some(metrics) = &mut self.metrics {
                    metrics.show(status);
                }
            }
        }
    }
}

impl Screen {
    fn watching(&self, targets: &[String], no_announcements: Option<String>) {
        if targets.is_empty() {
            self.say("nobody is there yet");
        }
        if let Some(reason) = &no_announcements {
            self.say(&format!("kills are told by the control group's counter only: {reason}"));
        }
        self.line("watching", || json!({"targets": targets, "no_announcements": no_announcements}));
    }

    fn tell(&self, event: &str, text: &str, what: &str) {
        self.say(text);
        self.line(event, || json!({"what": what}));
    }

    /// Also when it is to be quiet.
    fn failed(&self, error: &str) {
        say(format_args!("error: no capture: {error}"));
        self.line("failed", || json!({"error": error}));
    }

    fn status(&self, status: &Status) {
        let shown: Vec<String> = status.targets.iter().take(MOST_TARGETS).map(target).collect();
        let more = status.targets.len().saturating_sub(MOST_TARGETS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.say(&format!(
            "{}{more}; {} captures, {} kills; own {}",
            shown.join("; "),
            status.captures_written,
            status.oom_kills,
            bytes(status.own.rss_bytes)
        ));
        self.line("status", || json!({"status": status}));
    }
}

fn whom(pid: Option<u32>) -> String {
    pid.map_or_else(|| "whoever comes next".to_owned(), |pid| format!("process {pid}"))
}

fn captured(pid: u32, duration_ns: u64) -> String {
    match duration_ns {
        0 => format!("what was traced of process {pid} is kept"),
        _ => format!("process {pid} is traced for {}", self::duration_ns(duration_ns)),
    }
}

fn target(status: &TargetStatus) -> String {
    let of = status.limit_bytes.map(|limit| format!(" of {}", bytes(limit)));
    let left = status.time_to_limit_ns.map(|left| format!(", full in {}", duration_ns(left)));
    format!(
        "{} {}{}{}",
        status.name,
        bytes(status.rss.now_bytes),
        of.unwrap_or_default(),
        left.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_memtrace_alive_is_said_and_so_is_what_does_not() {
        let all =
            Preserved { reserved_bytes: 20 << 20, oom_score_adj: -1000, ..Preserved::default() };
        assert!(footprint(&all).contains("memory locked, is killed last"), "{}", footprint(&all));
        let none = Preserved {
            not_locked: Some("EPERM".into()),
            not_lowered: Some("EACCES".into()),
            ..Preserved::default()
        };
        assert!(footprint(&none).contains("NOT locked (EPERM)"), "{}", footprint(&none));
    }

    #[test]
    fn a_target_is_told_with_its_limit_and_how_long_it_lasts() {
        let status = TargetStatus {
            name: "/job".into(),
            rss: crate::watch::status::Gauge { now_bytes: 1 << 20, ..Default::default() },
            limit_bytes: Some(2 << 20),
            time_to_limit_ns: Some(9_000_000_000),
            ..TargetStatus::default()
        };
        assert_eq!(target(&status), "/job 1.0 MiB of 2.0 MiB, full in 9.0 s");
    }
}
