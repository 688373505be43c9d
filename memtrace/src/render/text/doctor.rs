//! A diagnosis as text: the verdict, what would be probed, a line per object, what to do.

use std::io;

use super::{
    TextOptions,
    page::{Page, Style, columns, cut},
};
use crate::{
    doctor::{
        AllocatorFacts, Diagnosis, KernelFacts, LockdownFacts, ObjectFacts, ProbeFacts,
        PythonFacts, Subject, SymbolFacts, SymbolKind, SymbolOrigin, TableTotals,
    },
    model::size::{Units, bytes, count, duration_ns},
    render::{
        cost,
        label::{clean, place, plural},
    },
};

/// What is shown of the command line.
const COMMAND_COLUMNS: usize = 160;

/// Indent of what belongs to the line above.
const INDENT: usize = 4;

/// Writes the diagnosis.
///
/// # Errors
/// Those of the writer.
pub fn write(
    diagnosis: &Diagnosis,
    options: TextOptions,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let mut page = Page::new(options);
    header(&mut page, diagnosis);
    if diagnosis.target.is_some() {
        objects(&mut page, &diagnosis.objects, diagnosis.totals);
    }
    findings(&mut page, diagnosis);
    out.write_all(page.finish().as_bytes())
}

fn header(page: &mut Page, diagnosis: &Diagnosis) {
    page.prose(Some(Style::Strong), 0, &verdict(diagnosis));
    for line in diagnosis.obstacles.iter().flat_map(|obstacle| obstacle.lines()) {
        page.prose(Some(Style::Warning), INDENT, line.trim());
    }
    if let Some(target) = &diagnosis.target {
        page.field("command", &cut(&target.command_line.join(" "), COMMAND_COLUMNS));
        page.field("process", &process(target));
    }
    if let Some(place) = diagnosis.place.as_ref().and_then(|it| place(it, Units::Auto)) {
        page.field("container", &place);
    }
    page.field("kernel", &kernel(&diagnosis.kernel));
    page.field("rights", &rights(&diagnosis.kernel));
    for facts in &diagnosis.allocators {
        allocator(page, facts);
    }
    if let Some(cost) = cost_line(diagnosis) {
        page.field("cost", &cost);
    }
    if let Some(probes) = diagnosis.growth_probes {
        page.field("--growth", &growth(probes));
    }
    if let Some(python) = &diagnosis.python {
        page.field("Python", &python_line(python));
    }
    for left in &diagnosis.left_out {
        page.field("left out", &format!("{}: {}", left.name, left.reason));
    }
}

fn verdict(diagnosis: &Diagnosis) -> String {
    let can = if diagnosis.traceable { "can" } else { "cannot" };
    match &diagnosis.target {
        Some(Subject { pid, command, .. }) => format!("{command} (pid {pid}) {can} be traced"),
        None => format!("memtrace {can} trace processes on this machine"),
    }
}

fn rights(kernel: &KernelFacts) -> String {
    let lacking: Vec<_> = kernel.lacking_rights.iter().map(|it| &*it.name).collect();
    let lockdown = match kernel.lockdown {
        LockdownFacts::Off => "no lockdown",
        LockdownFacts::Integrity => "lockdown: integrity (does not matter)",
        LockdownFacts::Confidentiality => "lockdown: confidentiality",
    };
    match lacking.is_empty() {
        true => format!("all that are needed, {lockdown}"),
        false => format!("no {}, {lockdown}", lacking.join(", ")),
    }
}

fn process(target: &Subject) -> String {
    let threads = target.threads;
    let seccomp = if target.seccomp_filter { ", under a seccomp filter" } else { "" };
    let resident = bytes(target.resident_bytes);
    format!("{} thread{}, RSS {resident}{seccomp}", count(threads), plural(threads))
}

fn kernel(kernel: &KernelFacts) -> String {
    let known = |what: &str, there: Option<bool>| match there {
        Some(true) => what.to_owned(),
        Some(false) => format!("no {what}"),
        None => format!("{what} not tried"),
    };
    let parts = [
        known("uprobes", Some(kernel.uprobes)),
        known("permission for BPF", kernel.bpf_permitted),
        known("multi-uprobe links", kernel.multi_uprobe_links),
        known("bpf_loop", Some(kernel.bpf_loop)),
        known("BTF", Some(kernel.btf)),
        known("JIT", kernel.jit),
    ];
    let hazard = if kernel.seccomp_hazard { "; return probes would kill this process" } else { "" };
    format!("Linux {}: {}{hazard}", kernel.release, parts.join(", "))
}

fn allocator(page: &mut Page, facts: &AllocatorFacts) {
    let version = facts.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    page.field("allocator", &format!("{}{version} ({})", facts.name, facts.path));
    probes(page, "one trap", facts.probes.iter().filter(|probe| probe.emulated));
    probes(page, "two traps", facts.probes.iter().filter(|probe| !probe.emulated));
    for skipped in &facts.skipped {
        page.field("", &format!("not probed: {}: {}", skipped.name, skipped.reason));
    }
    for note in &facts.notes {
        page.field("", &format!("note: {note}"));
    }
}

/// What an attach would cost just now.
fn cost_line(diagnosis: &Diagnosis) -> Option<String> {
    if let Some(reason) = &diagnosis.not_counted {
        return Some(format!("not known: {reason}"));
    }
    let cost = diagnosis.cost.as_ref()?;
    let counted = duration_ns(cost.expected?.counted_ns);
    Some(format!("{} (counted by its probes for {counted})", cost::sentence(cost)?))
}

/// Where it sees system calls.
fn growth(probes: u64) -> String {
    let otherwise = match probes {
        0 => "at the tracepoints of all system calls".to_owned(),
        _ => format!("in the program ({} probes)", count(probes)),
    };
    format!("sees system calls at functions of the kernel if that lets it, else {otherwise}")
}

fn python_line(python: &PythonFacts) -> String {
    let version = python.version.as_deref().unwrap_or("of unknown version");
    let frames = if python.refused.is_some() { "missing" } else { "shown" };
    format!("{version} ({}), frames {frames}", python.path)
}

/// The functions whose calls cost as much, with the place of the probe behind their first
/// instruction.
fn probes<'a>(page: &mut Page, cost: &str, probes: impl Iterator<Item = &'a ProbeFacts>) {
    let probes: Vec<_> = probes.map(probe).collect();
    if !probes.is_empty() {
        page.field("", &format!("{cost} a call: {}", probes.join(", ")));
    }
}

fn probe(probe: &ProbeFacts) -> String {
    let names = [&[probe.function], probe.aliases.as_slice()].concat().join("=");
    if probe.offset == 0 { names } else { format!("{names}+{}", probe.offset) }
}

fn objects(page: &mut Page, objects: &[ObjectFacts], totals: TableTotals) {
    const TITLES: [&str; 5] = ["code", "rows", "tables", "unsup.", "names"];
    let names: Vec<_> = objects.iter().map(|object| symbols(&object.symbols)).collect();
    let names_width = names.iter().map(|name| columns(name)).max().unwrap_or(0).max(5);
    page.gap();
    let [code, rows, tables, unsupported, titles] = TITLES;
    let title = format!(
        "{code:>10} {rows:>9} {tables:>10} {unsupported:>6}  {titles:names_width$}  object"
    );
    page.line(Some(Style::Strong), &title);
    for (object, names) in objects.iter().zip(&names) {
        let line = format!(
            "{} {:>6}  {names:names_width$}  {}",
            numbers(object.text_bytes, object.unwind.rows, object.unwind.table_bytes),
            share(object.unwind.unsupported_functions, object.unwind.functions),
            object_name(object),
        );
        page.line(None, &cut(&clean(&line), page.room(0)));
    }
    let built = duration_ns(totals.build_ns);
    let sums = numbers(totals.text_bytes, totals.rows, totals.table_bytes);
    page.line(Some(Style::Faint), &format!("{sums}  in total, built in {built}"));
}

fn numbers(text_bytes: u64, rows: u64, table_bytes: u64) -> String {
    format!("{:>10} {:>9} {:>10}", bytes(text_bytes), count(rows), bytes(table_bytes))
}

/// `0.1 %`; nothing of nothing is a dash.
fn share(part: u64, whole: u64) -> String {
    match (part, whole) {
        (_, 0) => "-".to_owned(),
        (0, _) => "0 %".to_owned(),
        _ => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}

fn symbols(facts: &SymbolFacts) -> String {
    let kind = match facts.kind {
        SymbolKind::None => "-",
        SymbolKind::Exported => "exported only",
        SymbolKind::Functions => "functions",
        SymbolKind::DebugInfo => "debug info",
        SymbolKind::Lines => "lines",
        SymbolKind::PerfMap => "perf map",
    };
    match facts.origin {
        Some(SymbolOrigin::BuildId) => format!("{kind} (build ID)"),
        Some(SymbolOrigin::DebugLink) => format!("{kind} (debug link)"),
        _ => kind.to_owned(),
    }
}

/// The path, and what else there is to say in the last column.
fn object_name(object: &ObjectFacts) -> String {
    let deleted = object.deleted.then(|| "deleted".to_owned());
    let missing = object.unwind.missing.as_ref().map(|reason| format!("no rows: {reason}"));
    let names = object.symbols.path.as_ref().map(|path| format!("names: {path}"));
    let more: Vec<_> = deleted.into_iter().chain(missing).chain(names).collect();
    if more.is_empty() {
        return object.path.clone();
    }
    format!("{} ({})", object.path, more.join("; "))
}

fn findings(page: &mut Page, diagnosis: &Diagnosis) {
    page.gap();
    if diagnosis.findings.is_empty() {
        let fine = match diagnosis.target {
            Some(_) => "Stacks and names would be complete.",
            None => {
                "Nothing is missing. `memtrace doctor -p PID` says what would be seen of a process."
            }
        };
        page.prose(None, 0, fine);
        return;
    }
    for (index, finding) in diagnosis.findings.iter().enumerate() {
        page.prose(Some(Style::Strong), 0, &finding.what);
        let next = diagnosis.findings.get(index + 1);
        // Neighbours with the same remedy share it.
        if next.is_none_or(|next| next.remedy != finding.remedy) {
            page.prose(None, INDENT, &finding.remedy);
        }
    }
}
