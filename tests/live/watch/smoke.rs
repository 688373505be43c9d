//! What must work on every kernel: control groups of the unified hierarchy where the kernel counts memory
//! in that, else of the old one.

use std::{
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use memtrace_tests::{
    binary::memtrace,
    cgroup::Cgroup,
    programs,
    running::Running,
    status_bytes,
    swap::Swap,
    wait_until,
    watch::{Watch, top_function},
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

const LIMIT_BYTES: u64 = 64 << 20;
const PAGE_BYTES: u64 = 4096;

/// Grows by so much a second, from SIGUSR1 on.
fn grower(group: &Cgroup, per_second: &str) -> Running {
    let mut command = group.command(&programs::path("grower"));
    Running::start(command.args([per_second, "3600"]).stdout(Stdio::null()))
}

fn assert_killed(report: &Value, pid: u32, group: &Cgroup) {
    let kill = &report["incident"]["oom_kill"];
    assert_eq!(kill["pid"], pid);
    assert_eq!(kill["command"], "grower");
    assert_eq!(kill["cgroup"], group.name());
    assert_eq!(kill["limit_bytes"], LIMIT_BYTES);
    assert_eq!(kill["oom_score_adj"], 0, "{kill}");
    let peak_bytes = kill["peak_bytes"].as_u64().unwrap();
    assert!(peak_bytes.abs_diff(group.peak_bytes()) <= PAGE_BYTES, "{peak_bytes}");
    assert_eq!(report["timeline"]["cgroup_peak_bytes"], peak_bytes);
    assert_eq!(report["place"]["cgroup"], group.name());
    assert_eq!(report["place"]["limit_bytes"], LIMIT_BYTES);
}

#[test]
fn smoke_each_life_that_is_killed_has_a_capture_with_its_site_and_the_true_peak() {
    let group = Cgroup::with_limit(LIMIT_BYTES);
    let mut watch = Watch::start(&["--cgroup", group.name(), "--follow", "--when", "rss>100%"]);
    for round in 1..=2 {
        let mut target = grower(&group, "40000000");
        watch.wait_until_it_traces(target.pid());
        target.signal(Signal::USR1);
        let announced = watch.event("oom_kill");
        assert_eq!(announced["oom_kill"]["pid"], target.pid(), "round {round}");
        target.wait();
        let report = watch.capture();
        assert_killed(&report, target.pid(), &group);
        assert_eq!(top_function(&report), "keep_forever", "round {round}");
        // Its own memory is nearly all that there was.
        let own = report["incident"]["oom_kill"]["anonymous_bytes"].as_u64().unwrap();
        assert!((LIMIT_BYTES / 2..=LIMIT_BYTES).contains(&own), "{own}");
        assert_eq!(group.oom_kills(), round);
    }
    let (status, stderr) = watch.interrupt();
    assert_eq!(status.code(), Some(0), "{stderr}");
}

#[test]
fn smoke_a_condition_has_its_capture_before_the_limit_is_reached() {
    let group = Cgroup::with_limit(LIMIT_BYTES);
    let arguments = ["--cgroup", group.name(), "--when", "rss>30%", "-d", "2s", "--once"];
    let mut target = grower(&group, "1500000");
    let mut watch = Watch::start(&arguments);
    assert_eq!(watch.event("ready")["pid"], target.pid());
    target.signal(Signal::USR1);
    let fired = watch.event("fired")["fired"].take();
    let rss_bytes = fired["rss_bytes"].as_u64().unwrap();
    assert!((LIMIT_BYTES * 3 / 10..LIMIT_BYTES / 2).contains(&rss_bytes), "{fired}");
    let left_ns = fired["time_to_limit_ns"].as_u64().unwrap();
    assert!((5_000_000_000..60_000_000_000).contains(&left_ns), "{fired}");
    let report = watch.capture();
    assert!(target.is_running() && group.oom_kills() == 0, "it was written after the kill");
    assert_eq!(top_function(&report), "keep_forever");
    assert_eq!(report["incident"]["fired"]["limit_bytes"], LIMIT_BYTES);
    assert_eq!(watch.wait().0.code(), Some(1));
}

/// In the unified hierarchy the kernel kills both at once, and the one that it chose a second time with all.
#[test]
fn smoke_who_is_killed_together_has_a_capture_each() {
    let group = Cgroup::with_limit(LIMIT_BYTES);
    if group.is_unified() {
        group.set("memory.oom.group", "1");
    }
    let arguments = ["--cgroup", group.name(), "--when", "rss>100%", "--every", "1s"];
    let mut watch = Watch::start(&arguments);
    let mut targets = [grower(&group, "40000000"), grower(&group, "10000000")];
    let mut status = || watch.event("status")["status"].take();
    wait_until("both were seen", || status()["targets"][0]["processes"] == 2);
    targets.iter().for_each(|it| it.signal(Signal::USR1));
    targets.iter_mut().for_each(|it| _ = it.wait());
    let mut killed: Vec<Value> = (0..2).map(|_| watch.capture()).collect();
    killed.sort_by_key(|it| it["target"]["pid"].as_u64());
    for (report, target) in killed.iter().zip(&targets) {
        assert_killed(report, target.pid(), &group);
    }
    assert_eq!(watch.event("status")["status"]["oom_kills"], 2);
    assert_eq!(group.kills_of_all(), u64::from(group.is_unified()));
    let counted = group.oom_kills();
    assert!(counted == 2 || (group.is_unified() && counted == 3), "{counted}");
    assert_eq!(watch.interrupt().0.code(), Some(0));
}

/// As a pod has containers: what counts is the limit that was reached.
#[test]
fn smoke_a_kill_in_a_group_inside_is_told_with_the_limit_and_the_peak_of_that() {
    let whole = Cgroup::with_limit(LIMIT_BYTES * 2);
    let (inside, beside) =
        (whole.with_one_inside("one", LIMIT_BYTES), whole.with_one_inside("other", LIMIT_BYTES));
    let arguments = ["--cgroup", whole.name(), "--when", "rss>100%", "--every", "1s"];
    let mut watch = Watch::start(&arguments);
    let mut target = grower(&inside, "20000000");
    let mut command = beside.command(&programs::path("half_touched"));
    let _neighbour = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::null()));
    let mut status = || watch.event("status")["status"].take();
    wait_until("both were seen", || status()["targets"][0]["processes"] == 2);
    target.signal(Signal::USR1);
    let report = watch.capture();
    target.wait();
    assert_killed(&report, target.pid(), &inside);
    assert!(whole.peak_bytes() > inside.peak_bytes() + PAGE_BYTES);
    assert_eq!(watch.interrupt().0.code(), Some(0));
}

/// No BPF program for kills: the group's own counter has to do.
#[test]
fn smoke_a_kill_that_is_not_announced_is_counted_by_its_group() {
    const RIGHTS_FOR_BPF: [libc::c_ulong; 3] = [21, 38, 39];
    let group = Cgroup::with_limit(LIMIT_BYTES);
    let drop_rights = || {
        for right in RIGHTS_FOR_BPF {
            // SAFETY: it takes numbers only.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, right, 0, 0, 0) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    let mut command = Command::new(memtrace());
    // SAFETY: between fork and exec, it makes system calls only.
    unsafe { command.arg("watch").pre_exec(drop_rights) };
    let mut target = grower(&group, "20000000");
    let arguments = ["--cgroup", group.name(), "--when", "rss>100%"];
    let mut watch = Watch::start_command(&mut command, &arguments, None);
    target.signal(Signal::USR1);
    let kill = watch.event("oom_kill")["oom_kill"].take();
    assert_eq!(kill["pid"], target.pid());
    assert_eq!(kill["command"], "grower");
    let report = watch.capture();
    target.wait();
    assert_eq!(group.oom_kills(), 1);
    let kill = &report["incident"]["oom_kill"];
    assert_eq!(
        (&kill["limit_bytes"], &kill["anonymous_bytes"]),
        (&LIMIT_BYTES.into(), &Value::Null)
    );
    let peak_bytes = kill["peak_bytes"].as_u64().unwrap();
    assert!(peak_bytes.abs_diff(group.peak_bytes()) <= PAGE_BYTES, "{peak_bytes}");
    let (status, stderr) = watch.interrupt();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("counter only"), "{stderr}");
}

/// Somebody in the group who waits for memory all the time.
fn pressed(group: &Cgroup) -> Running {
    if group.is_unified() {
        group.set("memory.high", &(8 << 20).to_string());
        let mut command = group.command(&programs::path("grower"));
        return Running::start(command.arg("20000000").stdout(Stdio::null()));
    }
    // The old hierarchy has no bound that only slows down: files that do not fit.
    group.limit(8 << 20);
    let program = programs::path("rereads");
    // On a disk: what is in memory only cannot be dropped. It is removed while it is open.
    let file = program.with_file_name(format!("reread-{}", std::process::id()));
    let mut command = group.command(&program);
    let target = Running::start(command.arg(&file).arg((32 << 20).to_string()));
    wait_until("there is a file", || file.exists());
    fs::remove_file(file).unwrap();
    target
}

/// Both are in the group: what the target takes is missing for the watch, of which nothing goes to swap.
#[test]
fn smoke_a_capture_is_written_when_memory_is_gone_and_swap_is_in_use() {
    const ROOM_BYTES: u64 = 96 << 20;
    const SWAPPED_BYTES: u64 = 8 << 20;
    let _swap = Swap::on();
    let group = Cgroup::with_limit(ROOM_BYTES);
    group.may_swap();
    let arguments = ["--cgroup", group.name(), "--follow", "--when", "swap>8MiB"];
    let mut command = group.command(&memtrace());
    let mut watch = Watch::start_command(command.arg("watch"), &arguments, None);
    let mut target = grower(&group, "10000000");
    watch.wait_until_it_traces(target.pid());
    target.signal(Signal::USR1);
    let fired = watch.event("fired");
    // It stays where it is.
    target.signal(Signal::STOP);
    assert_eq!(fired["fired"]["condition"], "swap>8MiB");
    assert!(group.swap_bytes() > SWAPPED_BYTES, "{}", group.swap_bytes());
    // All of it was gone: what the kernel swaps out at a time leaves some room again.
    let used = group.peak_bytes();
    assert!(used as f64 > 0.98 * ROOM_BYTES as f64, "{used}");
    let report = watch.capture();
    assert_eq!(top_function(&report), "keep_forever");
    assert!(target.is_running() && group.oom_kills() == 0, "the kernel had to kill it");
    assert_eq!(status_bytes(watch.pid(), "VmSwap"), 0, "the watch was swapped out");
    assert_eq!(watch.interrupt().0.code(), Some(0));
}

/// The files by which the kernel is asked to tell this process of pressure.
fn triggers(watch: &Watch) -> Vec<PathBuf> {
    let files = fs::read_dir(format!("/proc/{}/fd", watch.pid())).unwrap();
    let files = files.filter_map(|it| fs::read_link(it.unwrap().path()).ok());
    files.filter(|it| it.to_string_lossy().contains("pressure")).collect()
}

/// CPU time of a process, in ticks.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    after_name.split(' ').skip(11).take(2).map(|it| it.parse::<u64>().unwrap()).sum()
}

#[test]
fn smoke_pressure_fires_by_the_kernels_trigger_also_when_the_group_came_again() {
    let name = format!("memtrace-test-pressed-{}", std::process::id());
    let first = Cgroup::named(&name);
    let of_group = first.directory().join("memory.pressure");
    let is_of_group = first.is_unified();
    let expected = if is_of_group { of_group } else { "/proc/pressure/memory".into() };
    let arguments = ["--cgroup", first.name(), "--when", "psi>5%", "-d", "1s", "--once"];
    let mut watch = Watch::start(&arguments);
    assert_eq!(triggers(&watch), [expected.as_path()]);
    first.remove();
    assert_eq!(watch.event("gone")["what"], first.name());
    let before = ticks(watch.pid());
    sleep(Duration::from_secs(3));
    let spent = ticks(watch.pid()) - before;
    assert!(spent < 100, "{spent} ticks in three seconds without anything to watch");
    let again = Cgroup::named(&name);
    assert_eq!(watch.event("appeared")["what"], again.name());
    assert_eq!(triggers(&watch), [expected.as_path()]);
    let target = pressed(&again);
    let fired = watch.event("fired");
    assert_eq!(fired["pid"], target.pid());
    assert_eq!(fired["fired"]["condition"], "psi>5%");
    assert_eq!(watch.capture()["incident"]["fired"]["watched"], again.name());
    let (status, stderr) = watch.wait();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("{} has gone", first.name())), "{stderr}");
}

#[test]
fn smoke_what_a_group_leaves_is_what_a_command_may_need() {
    const ROOM_BYTES: u64 = 400 << 20;
    let group = Cgroup::with_limit(ROOM_BYTES);
    let directory = TempDir::new().unwrap();
    let prefix = directory.path().join("out");
    let run = |needed: &str| {
        let mut command = group.command(&memtrace());
        command.args(["run", "--json", "--need", needed, "-o"]).arg(&prefix).arg("--");
        command.arg(programs::path("exit_soon")).arg("10").stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One that is refused does not read it.
        let _ = child.stdin.take().unwrap().write_all(b"go\n");
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, stderr) = run("401MiB");
    assert_eq!(status, Some(2), "{stderr}");
    let leaves = format!("control group {} leaves", group.directory().display());
    assert!(stderr.contains(&leaves) && stderr.contains("of 400.0 MiB"), "{stderr}");
    let (status, stderr) = run("64MiB");
    assert_eq!(status, Some(0), "{stderr}");
    let json = fs::read_to_string(prefix.with_extension("json")).unwrap();
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["place"]["cgroup"], group.name());
    assert_eq!(report["place"]["limit_bytes"], ROOM_BYTES);
    assert_eq!(top_function(&report), "site_exit_soon");
}
