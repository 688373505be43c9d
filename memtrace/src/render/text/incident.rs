//! Why a capture was taken when nobody was there.

use crate::{
    model::{
        incident::{Fired, Incident, OomKill},
        size::{Units, duration_ns},
    },
    render::text::page::{Page, Style},
};

pub(super) fn write(page: &mut Page, incident: &Incident) {
    let units = page.units();
    if let Some(kill) = &incident.oom_kill {
        page.prose(Some(Style::Warning), 0, &killed(kill, units));
    }
    if let Some(fired) = &incident.fired {
        page.prose(Some(Style::Warning), 0, &condition(fired, units));
    }
}

fn killed(kill: &OomKill, units: Units) -> String {
    let own = kill.anonymous_bytes.map(|own| format!(" with {} of its own", units.bytes(own)));
    let of_group = kill.peak_bytes.map(|peak| {
        let limit = kill.limit_bytes.map(|limit| format!(" of {}", units.bytes(limit)));
        format!("; its control group had {}{}", units.bytes(peak), limit.unwrap_or_default())
    });
    let score = kill.oom_score_adj.map(|score| format!("; oom_score_adj {score}"));
    format!(
        "KILLED for want of memory: process {} ({}){}{}{}.",
        kill.pid,
        kill.command,
        own.unwrap_or_default(),
        of_group.unwrap_or_default(),
        score.unwrap_or_default(),
    )
}

fn condition(fired: &Fired, units: Units) -> String {
    let limit = fired.limit_bytes.map(|limit| format!(" of {}", units.bytes(limit)));
    let left = fired.time_to_limit_ns.map(|left| format!("; {} were left", duration_ns(left)));
    format!(
        "Taken because {} was met by {} at {}: {}{}{}.",
        fired.condition,
        fired.watched,
        fired.at,
        units.bytes(fired.rss_bytes),
        limit.unwrap_or_default(),
        left.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_told_with_all_that_is_known_of_it() {
        let kill = OomKill {
            pid: 7,
            command: "leaker".into(),
            anonymous_bytes: Some(500 << 20),
            oom_score_adj: Some(3),
            limit_bytes: Some(512 << 20),
            peak_bytes: Some(512 << 20),
            ..OomKill::default()
        };
        assert_eq!(
            killed(&kill, Units::Auto),
            "KILLED for want of memory: process 7 (leaker) with 500.0 MiB of its own; its control \
             group had 512.0 MiB of 512.0 MiB; oom_score_adj 3."
        );
        let unknown = OomKill { pid: 7, command: "x".into(), ..OomKill::default() };
        assert_eq!(killed(&unknown, Units::Auto), "KILLED for want of memory: process 7 (x).");
    }

    #[test]
    fn a_condition_is_told_as_it_was_typed() {
        let fired = Fired {
            condition: "rss>80%".into(),
            watched: "/job".into(),
            at: "2026-01-01T00:00:00Z".into(),
            rss_bytes: 81 << 20,
            limit_bytes: Some(100 << 20),
            time_to_limit_ns: Some(3_000_000_000),
            ..Fired::default()
        };
        let text = condition(&fired, Units::Auto);
        assert!(text.starts_with("Taken because rss>80% was met by /job at 2026"), "{text}");
        assert!(text.contains("81.0 MiB of 100.0 MiB; 3.0 s were left"), "{text}");
    }
}
