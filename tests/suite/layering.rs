//! Who may use whom inside memtrace: imports go one way, and only the shell touches the world.

use crate::source_paths::memtrace_sources;

/// Each module, and the ones that it may name. From the top down; a module that is not here is
/// not part of the architecture yet.
const MAY_USE: &[(&str, &[&str])] = &[
    ("main", &["cli", "cmd", "replay"]),
    (
        "cmd",
        &[
            "cli",
            "session",
            "watch",
            "trigger",
            "budget",
            "probe",
            "allocator",
            "symbolize",
            "push",
            "replay",
            "render",
            "whatif",
            "diff",
            "report",
            "capture",
            "doctor",
            "metrics",
            "inspection",
            "sys",
            "model",
        ],
    ),
    // Limits of options.
    ("cli", &["allocator", "probe", "trigger", "whatif"]),
    (
        "session",
        &[
            "probe",
            "watch",
            "trigger",
            "budget",
            "allocator",
            "symbolize",
            "runtime",
            "report",
            "capture",
            "analysis",
            "doctor",
            "inspection",
            "threads",
            "sys",
            "ledger",
            "growth",
            "decode",
            "unwind",
            "elf",
            "model",
        ],
    ),
    ("probe", &["allocator", "sys", "unwind", "elf", "model"]),
    ("push", &["render", "report", "model"]),
    // In a process of its own, which it is the whole of.
    ("replay", &["whatif"]),
    ("render", &["whatif", "diff", "report", "doctor", "inspection", "model"]),
    // Its tests keep books of what it says.
    ("whatif", &["capture", "ledger", "model"]),
    ("diff", &["report", "model"]),
    ("report", &["capture", "analysis", "model"]),
    ("capture", &["ledger", "analysis", "model"]),
    ("budget", &["model"]),
    ("doctor", &["model"]),
    ("metrics", &["watch", "inspection", "sys", "model"]),
    ("inspection", &["analysis", "model"]),
    ("threads", &["elf", "model"]),
    ("symbolize", &["elf", "model"]),
    ("allocator", &["elf", "model"]),
    ("runtime", &["elf", "model"]),
    ("sys", &["elf", "model"]),
    // Its tests keep books of what it says.
    ("growth", &["ledger", "model"]),
    ("ledger", &["analysis", "model"]),
    ("analysis", &["model"]),
    ("decode", &["model"]),
    // The inverse of decode, for tests.
    ("encode", &["model"]),
    ("unwind", &["elf", "model"]),
    ("watch", &["trigger", "model"]),
    ("trigger", &[]),
    ("elf", &["model"]),
    ("model", &[]),
];

/// Modules that may read files, talk to the kernel and run an event loop.
const SHELL: &[&str] =
    &["main", "cmd", "cli", "session", "probe", "metrics", "push", "symbolize", "sys", "replay"];

/// Crates and parts of std that do so.
const OUTSIDE_WORLD: &[(&str, &[&str])] = &[
    ("std", &["fs", "net", "process", "env"]),
    ("rustix", &["*"]),
    ("libc", &["*"]),
    ("aya", &["*"]),
    ("tokio", &["*"]),
];

fn may_use(module: &str) -> &'static [&'static str] {
    let found = MAY_USE.iter().find(|(name, _)| *name == module);
    found.unwrap_or_else(|| panic!("module {module} is not in the table of layers")).1
}

#[test]
fn imports_go_one_way() {
    let mut wrong = Vec::new();
    for source in memtrace_sources().iter().filter(|source| source.module() != "lib") {
        let module = source.module();
        for used in source.segments_after("crate").iter().chain(&source.segments_after("memtrace"))
        {
            if used != module && !may_use(module).contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", source.path.display()));
            }
        }
    }
    assert_eq!(wrong, [] as [&str; 0]);
}

#[test]
fn the_table_of_layers_has_no_cycle() {
    for (at, (module, used)) in MAY_USE.iter().enumerate() {
        for name in *used {
            let below = MAY_USE[at + 1..].iter().any(|(it, _)| it == name);
            assert!(below, "{module} uses {name}, which is not below it");
        }
    }
}

#[test]
fn only_the_shell_touches_the_world() {
    let mut wrong = Vec::new();
    for source in memtrace_sources() {
        if SHELL.contains(&source.module()) {
            continue;
        }
        for (root, forbidden) in OUTSIDE_WORLD {
            for used in source.segments_after(root) {
                if forbidden.contains(&"*") || forbidden.contains(&used.as_str()) {
                    wrong.push(format!("{} uses {root}::{used}", source.path.display()));
                }
            }
        }
    }
    assert_eq!(wrong, [] as [&str; 0]);
}

#[test]
fn bpf_and_event_loops_have_few_homes() {
    let homes: [(&str, &[&str]); 2] =
        [("aya", &["probe"]), ("tokio", &["session", "probe", "metrics", "sys"])];
    for source in memtrace_sources() {
        for (root, homes) in homes {
            let at_home = homes.contains(&source.module());
            let used = !source.segments_after(root).is_empty();
            assert!(at_home || !used, "{} uses {root}", source.path.display());
        }
    }
}
