//! What the facts mean for a result, and what to do.

use super::{
    AllocatorFacts, Diagnosis, Finding, KernelFacts, LockdownFacts, ObjectFacts, SymbolKind,
};
use crate::model::size::bytes;

/// How many objects a sentence names.
const NAMED: usize = 5;

/// More unsupported functions than these of a thousand are worth a word; some assembly is
/// in every system library.
const UNSUPPORTED_PER_MILLE: u64 = 30;

/// Everything worth a word, the heaviest first.
pub fn findings(diagnosis: &Diagnosis) -> Vec<Finding> {
    let objects = &diagnosis.objects;
    [
        rights(&diagnosis.kernel),
        lockdown(&diagnosis.kernel),
        profilers(&diagnosis.kernel),
        left_out(diagnosis),
        skipped(&diagnosis.allocators),
        stepped(&diagnosis.allocators),
        python(diagnosis),
        no_rows(objects),
        unsupported(objects),
        generated(objects),
        nameless(objects),
        exported_only(objects),
        no_lines(objects),
        interpreted(&diagnosis.kernel),
        no_types(&diagnosis.kernel),
        slow_links(diagnosis),
        no_instructions(&diagnosis.kernel),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn finding(what: String, remedy: &str) -> Option<Finding> {
    Some(Finding { what, remedy: remedy.to_owned() })
}

/// `a, b and 3 more`, with the verb forms left to the caller; `None` when there is none.
fn names<'a>(all: impl Iterator<Item = &'a ObjectFacts>) -> Option<String> {
    let all: Vec<_> = all.map(ObjectFacts::base_name).collect();
    let rest = all.len().saturating_sub(NAMED);
    let named = all[..all.len() - rest].join(", ");
    match (all.len(), rest) {
        (0, _) => None,
        (_, 0) => Some(named),
        (_, rest) => Some(format!("{named} and {rest} more")),
    }
}

fn rights(kernel: &KernelFacts) -> Option<Finding> {
    let lacking: Vec<_> = kernel
        .lacking_rights
        .iter()
        .map(|right| format!("{} (to {})", right.name, right.reason))
        .collect();
    if lacking.is_empty() {
        return None;
    }
    finding(
        format!("memtrace lacks {}.", lacking.join(", ")),
        "Run it as root (sudo), or give it these capabilities (`setcap cap_bpf,cap_perfmon,\
         cap_sys_ptrace,cap_dac_read_search+ep memtrace`; in Kubernetes `securityContext.capabilities.add`).",
    )
}

fn lockdown(kernel: &KernelFacts) -> Option<Finding> {
    if kernel.lockdown != LockdownFacts::Confidentiality {
        return None;
    }
    finding(
        "The kernel is locked down (confidentiality): BPF programs may not read its memory, and \
         probes are refused."
            .to_owned(),
        "Boot with lockdown=integrity or without Secure Boot; `memtrace inspect` works all the same.",
    )
}

fn profilers(kernel: &KernelFacts) -> Option<Finding> {
    if !kernel.profiler_hazard {
        return None;
    }
    finding(
        format!(
            "Linux {} can panic when a profiler takes the stack of a process that has probes.",
            kernel.release
        ),
        "Do not run perf or another profiler meanwhile; Linux 6.13, 6.12.19 and 6.6.81 have the fix \
         (commit b583ef82b671). memtrace does not attach while it sees one.",
    )
}

fn interpreted(kernel: &KernelFacts) -> Option<Finding> {
    if kernel.jit != Some(false) {
        return None;
    }
    finding(
        "BPF programs are interpreted on this machine: each call costs several times as much."
            .to_owned(),
        "`sysctl net.core.bpf_jit_enable=1` has them compiled.",
    )
}

fn no_types(kernel: &KernelFacts) -> Option<Finding> {
    if kernel.btf {
        return None;
    }
    finding(
        "This kernel does not describe its types (no BTF): Python's frames would be missing."
            .to_owned(),
        "Use a kernel with CONFIG_DEBUG_INFO_BTF, as those of distributions have it.",
    )
}

fn left_out(diagnosis: &Diagnosis) -> Option<Finding> {
    let reasons: Vec<_> =
        diagnosis.left_out.iter().map(|left| format!("{} ({})", left.name, left.reason)).collect();
    if reasons.is_empty() {
        return None;
    }
    finding(
        format!("Allocations by these objects would not be seen: {}.", reasons.join("; ")),
        "If the program allocates by one of them, run it with another build of that object.",
    )
}

fn skipped(allocators: &[AllocatorFacts]) -> Option<Finding> {
    let skipped: Vec<_> = allocators
        .iter()
        .flat_map(|allocator| &allocator.skipped)
        .map(|function| format!("{} ({})", function.name, function.reason))
        .collect();
    if skipped.is_empty() {
        return None;
    }
    finding(
        format!("Calls of these functions would not be seen: {}.", skipped.join("; ")),
        "Blocks that only they allocate are missing from a result; the others are not affected.",
    )
}

fn stepped(allocators: &[AllocatorFacts]) -> Option<Finding> {
    let stepped: Vec<_> = allocators
        .iter()
        .flat_map(|allocator| &allocator.probes)
        .filter(|probe| !probe.emulated)
        .map(|probe| probe.function)
        .collect();
    if stepped.is_empty() {
        return None;
    }
    finding(
        format!("Calls of {} would cost the target two traps each, not one.", stepped.join(", ")),
        "None of their first instructions can be emulated by this kernel: keep the window short if \
         they are called often.",
    )
}

fn python(diagnosis: &Diagnosis) -> Option<Finding> {
    let python = diagnosis.python.as_ref()?;
    let reason = python.refused.as_ref()?;
    finding(
        format!("The frames of the Python in {} would be missing: {reason}.", python.path),
        "Stacks would show the interpreter's own functions in their place, and memory can still be \
         told apart by the objects that allocate it.",
    )
}

fn no_rows(objects: &[ObjectFacts]) -> Option<Finding> {
    let without = |object: &&ObjectFacts| object.path.starts_with('/') && lacks_rows(object);
    let reasons: Vec<_> = objects
        .iter()
        .filter(without)
        .take(NAMED)
        .map(|object| {
            let reason = object.unwind.missing.as_deref().unwrap_or_default();
            format!("{} ({reason})", object.base_name())
        })
        .collect();
    let more = objects.iter().filter(without).count() - reasons.len();
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    if reasons.is_empty() {
        return None;
    }
    finding(
        format!(
            "Stacks through these objects are guessed by frame pointers: {}{more}.",
            reasons.join("; ")
        ),
        "Use builds that keep .eh_frame (do not strip it, do not compile with \
         -fno-asynchronous-unwind-tables), or compile them with -fno-omit-frame-pointer.",
    )
}

fn lacks_rows(object: &ObjectFacts) -> bool {
    object.unwind.missing.is_some()
}

fn unsupported(objects: &[ObjectFacts]) -> Option<Finding> {
    let much = objects.iter().filter(|object| {
        let unwind = &object.unwind;
        unwind.unsupported_functions.saturating_mul(1000)
            > unwind.functions.saturating_mul(UNSUPPORTED_PER_MILLE)
    });
    let names = names(much)?;
    finding(
        format!("Some functions have unwind rules that are not supported: {names}."),
        "Stacks that pass through them end there, marked [no unwind information]; see \
         `unsupported` in --json for what they need.",
    )
}

fn generated(objects: &[ObjectFacts]) -> Option<Finding> {
    let generated = || objects.iter().filter(|object| object.is_generated());
    let unnamed = generated().any(|object| object.symbols.kind == SymbolKind::None);
    let total: u64 = generated().map(|object| object.text_bytes).sum();
    if total == 0 {
        return None;
    }
    let what = format!(
        "{} of code were generated at run time; stacks through it are guessed by frame pointers",
        bytes(total)
    );
    if unnamed {
        finding(
            format!("{what}, and it has no names."),
            "Start the program so that it writes /tmp/perf-PID.map (node --perf-basic-prof, python \
             -X perf, java -XX:+UnlockDiagnosticVMOptions -XX:+DumpPerfMapAtExit, \
             DOTNET_PerfMapEnabled=1) and keeps frame pointers (java -XX:+PreserveFramePointer).",
        )
    } else {
        finding(
            format!("{what}."),
            "Have the compiler keep frame pointers (java -XX:+PreserveFramePointer).",
        )
    }
}

fn with_kind(objects: &[ObjectFacts], kind: SymbolKind) -> impl Iterator<Item = &ObjectFacts> {
    objects.iter().filter(move |it| it.path.starts_with('/') && it.symbols.kind == kind)
}

fn nameless(objects: &[ObjectFacts]) -> Option<Finding> {
    let names = names(with_kind(objects, SymbolKind::None))?;
    finding(
        format!("Functions have no names at all, only offsets: {names}."),
        "Use builds that are not stripped, or pass --debug-dir with their debug files.",
    )
}

fn exported_only(objects: &[ObjectFacts]) -> Option<Finding> {
    let names = names(with_kind(objects, SymbolKind::Exported))?;
    finding(
        format!("Static functions have no names, only exported ones: {names}."),
        HOW_TO_GET_DEBUG_FILES,
    )
}

fn no_lines(objects: &[ObjectFacts]) -> Option<Finding> {
    let names = names(with_kind(objects, SymbolKind::Functions))?;
    finding(
        format!("Frames have no source lines and no inlined functions: {names}."),
        HOW_TO_GET_DEBUG_FILES,
    )
}

const HOW_TO_GET_DEBUG_FILES: &str = "\
Install the debug packages (Debian, Ubuntu: `find-dbgsym-packages PATH` of debian-goodies names them; \
Fedora, RHEL: `dnf debuginfo-install PACKAGE`), or pass --debug-dir DIR with .build-id/xx/yyyy.debug \
files; builds of your own and Python wheels: do not strip them.";

fn slow_links(diagnosis: &Diagnosis) -> Option<Finding> {
    if diagnosis.kernel.multi_uprobe_links != Some(false) {
        return None;
    }
    finding(
        "This kernel has no multi-uprobe links for one process: attaching and detaching take some \
         seconds."
            .to_owned(),
        "Nothing is lost by it; Linux 6.10 and newer do it in milliseconds.",
    )
}

fn no_instructions(kernel: &KernelFacts) -> Option<Finding> {
    if kernel.counts_instructions {
        return None;
    }
    finding(
        "The CPU's count of instructions cannot be read: what a busy process allocated while it was not \
         watched is told by CPU time, with wider intervals."
            .to_owned(),
        "In a virtual machine, give it a performance monitoring unit (PMU); in a container, permit the \
         system call perf_event_open. Without, `--max-overhead none` sees all that is allocated.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Exception, UnwindFacts, sample};

    fn whats(diagnosis: &Diagnosis) -> Vec<String> {
        findings(diagnosis).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn nothing_is_said_of_a_process_that_lacks_nothing() {
        assert_eq!(whats(&sample::whole()), [] as [&str; 0]);
    }

    #[test]
    fn what_is_missing_is_said_with_the_names_of_the_largest() {
        let whats = whats(&sample::lacking());
        let has =
            |words: &[&str]| whats.iter().any(|what| words.iter().all(|word| what.contains(word)));
        assert!(has(&["would not be seen", "/opt/lib/libodd.so", "compressed"]), "{whats:#?}");
        assert!(has(&["would not be seen", "pvalloc"]));
        assert!(has(&["two traps", "malloc"]));
        assert!(has(&["frame pointers", "libhand.so (it has no unwind information)"]));
        assert!(has(&["not supported", "libcrypto.so.3"]));
        assert!(has(&["generated at run time", "no names", "128.0 KiB"]));
        assert!(has(&["Static functions", "python3.11"]));
        assert!(has(&["no names at all", "libhand.so"]));
        assert!(has(&["no source lines", "libc.so.6"]));
        assert!(has(&["multi-uprobe"]));
        assert!(has(&["can panic", "6.6.31-0-virt"]));
        assert!(has(&["interpreted"]));
        assert!(has(&["no BTF"]));
        assert!(has(&["count of instructions", "CPU time"]));
    }

    #[test]
    fn what_stands_in_the_way_comes_first() {
        let whats = whats(&sample::refused());
        assert!(whats[0].contains("lacks CAP_BPF (to load BPF programs"), "{whats:?}");
        assert!(whats[1].contains("locked down"), "{whats:?}");
    }

    #[test]
    fn long_lists_are_cut_with_a_count() {
        let mut diagnosis = sample::whole();
        let mut object = diagnosis.objects[0].clone();
        object.unwind = UnwindFacts { missing: Some("x".to_owned()), ..UnwindFacts::default() };
        object.symbols.kind = SymbolKind::Exported;
        diagnosis.objects = vec![object; 7];
        let whats = whats(&diagnosis);
        assert!(whats[0].ends_with("; and 2 more."), "{whats:?}");
        assert!(whats[1].ends_with(" and 2 more."), "{whats:?}");
    }

    #[test]
    fn the_kernels_own_code_needs_no_names() {
        let mut diagnosis = sample::whole();
        diagnosis.objects.retain(|object| object.path.starts_with('['));
        assert!(!diagnosis.objects.is_empty());
        diagnosis.left_out = vec![Exception { name: "/a".to_owned(), reason: "b".to_owned() }];
        assert_eq!(whats(&diagnosis).len(), 1);
    }
}
