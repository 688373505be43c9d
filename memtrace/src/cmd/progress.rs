//! How a trace goes, on stderr: a line that renews itself on a terminal, the beginning and the
//! end elsewhere.

use std::io::{self, IsTerminal as _, Write as _};

use super::output;
use crate::{
    budget::{Change, Presence},
    model::{cost::Cost, size},
    render::cost,
    report::EndReason,
    session::{Observer, Sample},
};

/// Tells progress on stderr.
pub struct Progress {
    quiet: bool,
    live: bool,
    line_is_open: bool,
    /// The terminal is a command's, too, and so are its signals.
    of_command: bool,
    /// What CPython's own allocator costs is still to be told.
    tells_rate: bool,
}

/// The first sample after which a rate means something.
const RATE_AFTER_NS: u64 = 900_000_000;

impl Progress {
    /// Progress for a terminal or a log, or none at all.
    pub fn new(quiet: bool) -> Self {
        let live = !quiet && io::stderr().is_terminal();
        Self { quiet, live, line_is_open: false, of_command: false, tells_rate: false }
    }

    /// Beside a command, whose output a line that renews itself would disturb.
    pub fn of_command(self) -> Self {
        Self { live: false, of_command: true, ..self }
    }

    /// Tells the rate of records and what it costs, once: tracing every object of Python is dear.
    pub fn with_rate(self, tells_rate: bool) -> Self {
        Self { tells_rate, ..self }
    }

    fn tell_rate(&mut self, sample: &Sample) {
        if self.tells_rate && sample.elapsed_ns >= RATE_AFTER_NS {
            self.tells_rate = false;
            self.say(&rate(sample));
        }
    }

    fn say(&mut self, text: &str) {
        self.clear();
        if !self.quiet {
            output::say(format_args!("{text}"));
        }
    }

    /// Shows a line that the next one replaces. A terminal that went away is no reason to stop.
    fn show(&mut self, text: &str) {
        if self.live {
            let _ = write!(
                io::stderr(),
                "\r\x1b[2K{}",
                fitting(text, output::terminal_columns(&io::stderr()))
            );
            let _ = io::stderr().flush();
            self.line_is_open = true;
        }
    }

    /// Removes the line that is shown.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.line_is_open) {
            let _ = write!(io::stderr(), "\r\x1b[2K");
            let _ = io::stderr().flush();
        }
    }
}

fn rate(sample: &Sample) -> String {
    let per_second = |count: u64| count as f64 / (sample.elapsed_ns as f64 / 1e9);
    let rate = size::count(per_second(sample.events.saturating_add(sample.lost)) as u64);
    let advice = match sample.lost {
        0 => "",
        _ => "; some are lost: a larger --ring-size takes a burst, nothing takes millions a second",
    };
    format!("--pymalloc: {rate} records a second, each 1 to 5 us of the process's time{advice}")
}

/// The text cut to one line: a line that the terminal broke could not be replaced. The last column
/// stays free, because some terminals break there already.
fn fitting(text: &str, columns: Option<usize>) -> String {
    text.chars().take(columns.map_or(usize::MAX, |columns| columns.saturating_sub(1))).collect()
}

impl Observer for Progress {
    fn expected(&mut self, cost: &Cost) {
        if let Some(sentence) = cost::sentence(cost) {
            self.say(&sentence);
        }
    }

    fn changed(&mut self, change: &Change) {
        let Change { from, to, why } = change;
        self.say(&match to.presence {
            Presence::Never => format!(
                "detached: {why}; the limit of --max-overhead leaves no time to look at {from}"
            ),
            _ => format!("looking at {to} from now on: {why}"),
        });
    }

    fn tracing(&mut self, target: &str, probes: usize, attach_ns: u64) {
        let took = size::duration_ns(attach_ns);
        let ends = match self.of_command {
            true => "from its first allocation on",
            false => "Ctrl-C ends and reports",
        };
        self.say(&format!("tracing {target}: {probes} probes armed in {took}; {ends}"));
    }

    fn followed(&mut self, target: &str, since_fork_ns: Option<u64>) {
        let late = since_fork_ns
            .map(|late_ns| format!(", from {} after its fork on", size::duration_ns(late_ns)));
        self.say(&format!("following {target}{}", late.unwrap_or_default()));
    }

    fn sample(&mut self, sample: &Sample) {
        self.tell_rate(sample);
        let lost = match sample.lost {
            0 => "none lost".to_owned(),
            lost => format!("{} LOST", size::count(lost)),
        };
        self.show(&format!(
            "{:.0} s   RSS {}   never freed so far {}   {} events, {lost}",
            sample.elapsed_ns as f64 / 1e9,
            size::bytes(sample.rss_bytes),
            size::bytes(sample.live_bytes),
            size::count(sample.events),
        ));
    }

    fn ended(&mut self, reason: EndReason) {
        self.say(match reason {
            EndReason::Duration if self.of_command => "the time is over; the command goes on",
            EndReason::Duration => "the time is over; detaching",
            EndReason::Interrupted | EndReason::Terminated => "interrupted; detaching",
            EndReason::TargetExited => "the process ended",
            EndReason::Condition => "a condition is met; detaching",
            EndReason::Unknown => "the trace ended",
        });
    }

    fn naming(&mut self, stacks: usize) {
        self.show(&format!("naming {} stacks ...", size::count(stacks as u64)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_counts_what_was_lost_and_says_what_to_do() {
        let sample =
            Sample { elapsed_ns: 2_000_000_000, events: 300, lost: 100, ..Sample::default() };
        assert!(rate(&sample).contains("200 records a second"), "{}", rate(&sample));
        assert!(rate(&sample).contains("--ring-size"));
        assert!(!rate(&Sample { lost: 0, ..sample }).contains("--ring-size"));
    }

    #[test]
    fn a_line_of_progress_is_never_broken() {
        assert_eq!(fitting("größer", Some(5)), "größ");
        assert_eq!(fitting("größer", Some(7)), "größer");
        assert_eq!(fitting("größer", None), "größer");
    }
}
