//! The text that is scraped: names and units by Prometheus's conventions.

use prometheus::{
    Counter, GaugeVec, IntCounter, IntCounterVec, Opts, Registry, Result, TextEncoder,
    core::Collector,
};

use super::{
    own::OwnCost,
    reading::{Quantity, Reading, Target, Work},
};

/// The text format's.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The label that tells targets apart.
const TARGET: &str = "target";

/// A target, as it is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) target: Target,
    /// The most since the scraper's last scrape.
    pub(super) max: Reading,
}

/// All that is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Scrape {
    pub(super) targets: Vec<Shown>,
    pub(super) work: Option<Work>,
    pub(super) own: OwnCost,
    pub(super) started_unix_s: f64,
}

/// Writes it. Metrics of which nothing is known are left out.
///
/// # Errors
/// When a name is not one, or used twice.
pub(super) fn encode(scrape: &Scrape) -> Result<String> {
    let registry = Registry::new();
    for quantity in Quantity::ALL {
        sizes(&registry, scrape, quantity)?;
    }
    facts(&registry, scrape)?;
    counts(&registry, scrape)?;
    work(&registry, scrape)?;
    information(&registry, scrape)?;
    own(&registry, scrape)?;
    TextEncoder::new().encode_to_string(&registry.gather())
}

fn sizes(registry: &Registry, scrape: &Scrape, quantity: Quantity) -> Result<()> {
    let (name, help) = (quantity.name(), quantity.help());
    gauge(registry, scrape, &format!("{name}_bytes"), help, |it| it.target.now.get(quantity))?;
    let help = format!("The most since this scraper's last scrape. {help}");
    let name = format!("{name}_max_since_last_scrape_bytes");
    gauge(registry, scrape, &name, &help, |it| it.max.get(quantity))
}

fn facts(registry: &Registry, scrape: &Scrape) -> Result<()> {
    let limit = "The lowest memory limit of the target's control groups.";
    gauge(registry, scrape, "limit_bytes", limit, |it| it.target.limit_bytes)?;
    let peak = "The most that was ever resident of the target (VmHWM).";
    gauge(registry, scrape, "rss_peak_bytes", peak, |it| it.target.peak_rss_bytes)?;
    let peak = "The most that the target's control group was ever charged for.";
    gauge(registry, scrape, "cgroup_memory_peak_bytes", peak, |it| it.target.peak_cgroup_bytes)?;
    let count = "Processes of the target.";
    gauge(registry, scrape, "processes", count, |it| it.target.processes)?;
    let name = "memtrace_target_time_to_limit_seconds";
    let help = "When the limit is reached if the target goes on growing as it does.";
    number(registry, scrape, name, help, |it| Some(it.target.time_to_limit_ns? as f64 / 1e9))?;
    let looked = "When the target's memory was looked at for the last time.";
    let name = "memtrace_target_last_look_timestamp_seconds";
    number(registry, scrape, name, looked, |it| Some(it.target.looked_at_unix_ms? as f64 / 1e3))
}

fn counts(registry: &Registry, scrape: &Scrape) -> Result<()> {
    let help = "Looks at the target's memory.";
    counter(registry, scrape, "looks_total", help, |it| Some(it.target.looks))?;
    let help = "Processes of the target that the kernel killed for want of memory.";
    counter(registry, scrape, "oom_kills_total", help, |it| it.target.oom_kills)
}

/// What memtrace did, for all targets together.
fn work(registry: &Registry, scrape: &Scrape) -> Result<()> {
    let Some(work) = &scrape.work else { return Ok(()) };
    for (name, help, count) in [
        ("firings", "Conditions that were met.", work.firings),
        ("captures_written", "Captures that were written.", work.captures_written),
        ("captures_failed", "Captures that could not be taken or written.", work.captures_failed),
        ("captures_removed", "Captures that were removed to make room.", work.captures_removed),
        ("oom_kills", "Processes that the kernel killed for want of memory.", work.oom_kills),
    ] {
        let counter = IntCounter::new(format!("memtrace_{name}_total"), help)?;
        counter.inc_by(count);
        register(registry, counter)?;
    }
    let options = Opts::new("memtrace_losses_total", "What traces lost, by kind.");
    let vector = IntCounterVec::new(options, &["kind"])?;
    for (kind, count) in &work.losses {
        vector.with_label_values(&[kind]).inc_by(*count);
    }
    register(registry, vector)
}

fn information(registry: &Registry, scrape: &Scrape) -> Result<()> {
    let labels = [TARGET, "pid", "command", "cgroup", "container", "pod_uid"];
    let options = Opts::new("memtrace_target_info", "What the target is; always 1.");
    let vector = GaugeVec::new(options, &labels)?;
    for Shown { name, target, .. } in &scrape.targets {
        let about = &target.about;
        let pid = about.pid.map(|pid| pid.to_string()).unwrap_or_default();
        let values = [name, &pid, &about.command, &about.cgroup, &about.container, &about.pod_uid];
        vector.with_label_values(&values).set(1.0);
    }
    register(registry, vector)?;
    let options = Opts::new("memtrace_build_info", "The version of memtrace; always 1.");
    let vector = GaugeVec::new(options, &["version"])?;
    vector.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    register(registry, vector)
}

/// By the names that all exporters have for them.
fn own(registry: &Registry, scrape: &Scrape) -> Result<()> {
    if let Some(cpu_ns) = scrape.own.cpu_ns {
        let help = "CPU time that memtrace has taken.";
        let counter = Counter::new("process_cpu_seconds_total", help)?;
        counter.inc_by(cpu_ns as f64 / 1e9);
        register(registry, counter)?;
    }
    if let Some(bytes) = scrape.own.rss_bytes {
        let help = "Resident memory of memtrace.";
        let gauge = prometheus::Gauge::new("process_resident_memory_bytes", help)?;
        gauge.set(bytes as f64);
        register(registry, gauge)?;
    }
    let help = "When memtrace was started, since 1970.";
    let gauge = prometheus::Gauge::new("process_start_time_seconds", help)?;
    gauge.set(scrape.started_unix_s);
    register(registry, gauge)
}

fn gauge(
    registry: &Registry,
    scrape: &Scrape,
    name: &str,
    help: &str,
    value: impl Fn(&Shown) -> Option<u64>,
) -> Result<()> {
    let name = format!("memtrace_target_{name}");
    // Exact up to 8 PiB.
    number(registry, scrape, &name, help, |it| value(it).map(|it| it as f64))
}

fn number(
    registry: &Registry,
    scrape: &Scrape,
    name: &str,
    help: &str,
    value: impl Fn(&Shown) -> Option<f64>,
) -> Result<()> {
    let vector = GaugeVec::new(Opts::new(name, help), &[TARGET])?;
    for shown in &scrape.targets {
        if let Some(value) = value(shown) {
            vector.with_label_values(&[&shown.name]).set(value);
        }
    }
    register(registry, vector)
}

fn counter(
    registry: &Registry,
    scrape: &Scrape,
    name: &str,
    help: &str,
    value: impl Fn(&Shown) -> Option<u64>,
) -> Result<()> {
    let options = Opts::new(format!("memtrace_target_{name}"), help);
    let vector = IntCounterVec::new(options, &[TARGET])?;
    for shown in &scrape.targets {
        if let Some(count) = value(shown) {
            vector.with_label_values(&[&shown.name]).inc_by(count);
        }
    }
    register(registry, vector)
}

fn register(registry: &Registry, collector: impl Collector + 'static) -> Result<()> {
    registry.register(Box::new(collector))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::reading::About;

    fn full() -> Scrape {
        let all = |bytes: u64| {
            Quantity::ALL
                .into_iter()
                .fold(Reading::default(), |it, quantity| it.with(quantity, bytes))
        };
        let about = About { pid: Some(42), command: "a \"b\"\n\\".into(), ..About::default() };
        let work = Work {
            firings: 4,
            captures_written: 3,
            captures_failed: 1,
            captures_removed: 2,
            oom_kills: 6,
            losses: [("ring_full".to_owned(), 5)].into(),
        };
        let target = Target {
            about,
            now: all(1 << 40),
            limit_bytes: Some(1 << 41),
            peak_rss_bytes: Some(9),
            peak_cgroup_bytes: Some(10),
            looked_at_unix_ms: Some(1_700_000_000_500),
            processes: Some(6),
            time_to_limit_ns: Some(1_500_000_000),
            looks: 7,
            oom_kills: Some(2),
        };
        let shown = Shown { name: "app".into(), target, max: all(1 << 40 | 1) };
        let own = OwnCost { cpu_ns: Some(1_500_000_000), rss_bytes: Some(4096) };
        Scrape { targets: vec![shown], work: Some(work), own, started_unix_s: 1_700_000_000.25 }
    }

    #[test]
    fn all_that_is_known_is_written() {
        let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
        let text = encode(&full()).unwrap().replace(&version, "version=\"VERSION\"");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_is_not_known_is_left_out_and_not_zero() {
        let shown = Shown { name: "app".into(), ..Shown::default() };
        let text = encode(&Scrape { targets: vec![shown], ..Scrape::default() }).unwrap();
        for absent in ["rss_bytes", "limit_bytes", "oom_kills", "losses", "process_cpu"] {
            assert!(!text.contains(absent), "{absent} in\n{text}");
        }
        assert!(text.contains("memtrace_target_info{"), "{text}");
    }

    #[test]
    fn a_name_from_the_target_cannot_add_a_line() {
        let name = "x\"} 1\nmemtrace_target_oom_kills_total{target=\"y".to_owned();
        let text = encode(&Scrape {
            targets: vec![Shown { name, ..Shown::default() }],
            ..Scrape::default()
        });
        let text = text.unwrap();
        assert!(!text.lines().any(|line| line.starts_with("memtrace_target_oom_kills")), "{text}");
    }
}
