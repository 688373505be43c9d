//! `--exec`: a command after each capture.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::{cmd::output::say, model::incident::Incident, sys::signals::hold_nothing_back};

/// Starts it; how it ends is said, and nobody waits for it.
pub fn start(command: &str, capture: &Path, pid: u32, incident: &Incident) {
    let condition = incident.fired.as_ref().map(|it| it.condition.as_str()).unwrap_or_default();
    let mut shell = Command::new("/bin/sh");
    // A command that is run under a watch gets memtrace's signals, which memtrace holds back.
    hold_nothing_back(&mut shell);
    let spawned = shell
        // A child would inherit what keeps memtrace alive.
        .args(["-c", "echo 0 2>/dev/null >/proc/self/oom_score_adj; eval \"$0\"", command])
        .env("MEMTRACE_CAPTURE", capture)
        .env("MEMTRACE_PID", pid.to_string())
        .env("MEMTRACE_CONDITION", condition)
        .env("MEMTRACE_OOM_KILL", if incident.oom_kill.is_some() { "1" } else { "0" })
        .stdin(Stdio::null())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return say(format_args!("--exec cannot be started: {error}")),
    };
    let waiter =
        std::thread::Builder::new().name("hook".to_owned()).spawn(move || match child.wait() {
            Ok(status) if status.success() => {}
            Ok(status) => say(format_args!("--exec ended with {status}")),
            Err(error) => say(format_args!("--exec: {error}")),
        });
    if let Err(error) = waiter {
        log::warn!("--exec is not waited for: {error}");
    }
}
