//! What can go wrong between memtrace and the kernel, in words that say what to do.

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use rustix::io::Errno;
use thiserror::Error;

use super::load::ProbeSite;

/// What went wrong with the kernel, and what to do.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The caller lacks rights.
    #[error(
        "the kernel refused {what}: permission denied\n  run memtrace as root (sudo), or with \
         CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH; in a container it also needs \
         --pid=host and a kernel that is not in lockdown"
    )]
    Permission {
        /// The operation.
        what: String,
    },
    /// The kernel was built without uprobes, or hides them.
    #[error(
        "this kernel has no uprobes (no {path}): memtrace needs CONFIG_UPROBES and \
         CONFIG_UPROBE_EVENTS; `zgrep UPROBE /proc/config.gz` shows what it was built with"
    )]
    NoUprobes {
        /// The missing file.
        path: String,
    },
    /// A map type, helper or attach cookie is missing.
    #[error(
        "this kernel is too old for memtrace: {what}; Linux 5.15 or newer is needed (ring \
         buffer, attach cookies)"
    )]
    TooOld {
        /// What is missing.
        what: String,
    },
    /// Locked or kernel memory ran out.
    #[error(
        "the kernel has no memory for memtrace's tables ({what}): use a smaller --ring-size, or \
         raise the memory limit of memtrace's own cgroup"
    )]
    Memory {
        /// The operation.
        what: String,
    },
    /// The object could not be parsed, or a map could not be created.
    #[error("cannot load the BPF object: {0}")]
    Object(#[from] EbpfError),
    /// A map of the object cannot be used.
    #[error("cannot use the BPF map {name}: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// Why.
        source: MapError,
    },
    /// A program was refused.
    #[error("the kernel refused the BPF program {name}: {source}")]
    Program {
        /// Its name.
        name: String,
        /// Why, with the verifier's log.
        source: Refusal,
    },
    /// The object lacks a program: it does not belong to this build.
    #[error("the BPF object has no program {name}: it is not of this build of memtrace")]
    MissingProgram {
        /// Its name.
        name: String,
    },
    /// The growth mode's programs hang on functions of the kernel, which its BTF names.
    #[error(
        "--growth is not possible on this kernel: {reason}; it needs BTF (CONFIG_DEBUG_INFO_BTF) and \
         function tracing (CONFIG_FUNCTION_TRACER). `memtrace attach` without --growth needs neither"
    )]
    NoGrowth {
        /// What is missing.
        reason: String,
    },
    /// A probe could not be armed.
    #[error("cannot put a probe on {functions}: {source}")]
    Arm {
        /// The functions, with file offsets.
        functions: String,
        /// Why.
        source: Refusal,
    },
}

/// What the kernel, or aya on its behalf, said.
#[derive(Debug, Error)]
pub enum Refusal {
    /// Through aya.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// By a system call of our own.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Refusal {
    fn errno(&self) -> Option<Errno> {
        match self {
            Self::Program(error) => errno_of(error),
            Self::Io(error) => Errno::from_io_error(error),
        }
    }
}

pub(super) fn missing_map() -> LoadError {
    LoadError::MissingProgram { name: "(map)".to_owned() }
}

pub(super) fn classify_object_error(error: EbpfError) -> LoadError {
    match errno_of(&error) {
        Some(Errno::PERM | Errno::ACCESS) => {
            LoadError::Permission { what: "to create BPF maps".to_owned() }
        }
        Some(Errno::NOMEM) => LoadError::Memory { what: error_chain(&error) },
        Some(Errno::INVAL) => LoadError::TooOld { what: error_chain(&error) },
        _ => LoadError::Object(error),
    }
}

pub(super) fn classify_program_error(name: &str, source: Refusal) -> LoadError {
    match source.errno() {
        Some(Errno::PERM) => {
            LoadError::Permission { what: format!("to load the BPF program {name}") }
        }
        Some(Errno::NOMEM) => LoadError::Memory { what: format!("program {name}") },
        _ => LoadError::Program { name: name.to_owned(), source },
    }
}

pub(super) fn classify_arm_error(sites: &[ProbeSite], source: Refusal) -> LoadError {
    if matches!(source, Refusal::Program(ProgramError::AttachCookieNotSupported)) {
        return LoadError::TooOld { what: "it has no attach cookies".to_owned() };
    }
    let functions: Vec<_> = sites
        .iter()
        .map(|site| format!("{} (file offset {:#x})", site.function.name(), site.offset))
        .collect();
    let functions = functions.join(", ");
    match source.errno() {
        Some(Errno::PERM | Errno::ACCESS) => {
            LoadError::Permission { what: format!("probes on {functions}") }
        }
        _ => LoadError::Arm { functions, source },
    }
}

/// The system error at the root of an error, if there is one.
fn errno_of(error: &(dyn std::error::Error + 'static)) -> Option<Errno> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(io_error) = error.downcast_ref::<std::io::Error>() {
            return Errno::from_io_error(io_error);
        }
        current = error.source();
    }
    None
}

fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut current = error.source();
    while let Some(error) = current {
        text.push_str(": ");
        text.push_str(&error.to_string());
        current = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya::sys::SyscallError;

    use super::*;
    use crate::model::AllocFn;

    fn map_error(errno: Errno) -> EbpfError {
        let call = "bpf_create_map";
        EbpfError::MapError(SyscallError { call, io_error: io::Error::from(errno) }.into())
    }

    #[test]
    fn a_refused_map_asks_for_root() {
        for errno in [Errno::PERM, Errno::ACCESS] {
            let text = classify_object_error(map_error(errno)).to_string();
            assert!(text.contains("run memtrace as root") && text.contains("CAP_BPF"), "{text}");
        }
    }

    #[test]
    fn a_map_that_does_not_fit_into_memory_asks_for_a_smaller_ring() {
        let text = classify_object_error(map_error(Errno::NOMEM)).to_string();
        assert!(text.contains("--ring-size"), "{text}");
    }

    #[test]
    fn a_map_type_that_the_kernel_does_not_know_asks_for_a_newer_kernel() {
        let text = classify_object_error(map_error(Errno::INVAL)).to_string();
        assert!(text.contains("5.15"), "{text}");
    }

    #[test]
    fn a_kernel_without_attach_cookies_is_too_old() {
        let source = Refusal::Program(ProgramError::AttachCookieNotSupported);
        let text = classify_arm_error(&[], source).to_string();
        assert!(text.contains("attach cookies") && text.contains("5.15"), "{text}");
    }

    #[test]
    fn a_refused_site_names_its_function_and_offset() {
        let site = ProbeSite {
            function: AllocFn::Free,
            shape: AllocFn::Free.shape(),
            arguments: Default::default(),
            object: Default::default(),
            site: 0,
            is_leaf: false,
            offset: 0x98ef3,
        };
        let source = Refusal::Io(io::Error::from(Errno::INVAL));
        let text = classify_arm_error(&[site], source).to_string();
        assert!(text.contains("free (file offset 0x98ef3)"), "{text}");
    }

    #[test]
    fn a_kernel_without_uprobes_names_its_options() {
        let text = LoadError::NoUprobes { path: "/sys/x".to_owned() }.to_string();
        assert!(text.contains("/sys/x") && text.contains("CONFIG_UPROBES"), "{text}");
    }
}
