//! Multi-uprobe links: one kernel object for all sites of a program in a file.
//!
//! A perf-event uprobe costs its own grace periods when it is removed, under a global lock: about
//! 100 ms each, three seconds for an allocator. A multi-uprobe link removes all its sites at once,
//! and its hits pass through fewer layers. aya 0.14 does not know them, so this module makes the
//! two system calls itself, with instructions that aya-obj has relocated. Kernels that lack them
//! (before 6.6), or filter by thread and not by process (before 46ba0e49b642, 6.10), are told by
//! [`is_supported`] and served through aya's perf-event links.
//!
//! Since 6.13 such a link can be a session: one program at entry and return, and no return probe
//! where the entry wants none, which halves the price of a call that is only counted.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::{CStr, CString},
    io,
    num::NonZeroU32,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    panic::resume_unwind,
    thread,
};

use aya::maps::Map;
use aya_obj::{
    Object,
    generated::{
        BPF_F_UPROBE_MULTI_RETURN, bpf_attach_type::BPF_TRACE_UPROBE_MULTI, bpf_attr, bpf_cmd,
        bpf_prog_type::BPF_PROG_TYPE_KPROBE,
    },
};

/// The parsed object with its maps and calls relocated, ready to load programs from.
pub struct Programs {
    object: Object,
    btf: Option<OwnedFd>,
}

/// What a program is attached as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// At entries or at returns.
    Probes,
    /// At entries, and at those returns that the entry wants.
    Sessions,
}

/// `BPF_TRACE_UPROBE_SESSION` of include/uapi/linux/bpf.h, which aya-obj does not know yet.
const BPF_TRACE_UPROBE_SESSION: u32 = 57;

impl Attachment {
    fn attach_type(self) -> u32 {
        match self {
            Self::Probes => BPF_TRACE_UPROBE_MULTI as u32,
            Self::Sessions => BPF_TRACE_UPROBE_SESSION,
        }
    }
}

/// A loaded program.
pub struct LoadedProgram {
    fd: OwnedFd,
    attachment: Attachment,
}

/// A link; closing it removes the probes.
pub struct MultiLink {
    #[expect(dead_code, reason = "held for its drop")]
    fd: OwnedFd,
}

/// Room for the verifier's log, of which the end is shown.
const VERIFIER_LOG_BYTES: usize = 1 << 20;
/// Lines of it that are shown.
const VERIFIER_LOG_LINES: usize = 12;

/// A site to arm: file offset and cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Offset in the file.
    pub offset: u64,
    /// Attach cookie.
    pub cookie: u64,
}

impl Programs {
    /// Parses the object again and binds it to the maps that aya has created from it.
    pub fn new<'a>(
        object: &[u8],
        maps: impl Iterator<Item = (&'a str, &'a Map)>,
    ) -> anyhow::Result<Self> {
        let mut object = Object::parse(object)?;
        let btf = load_btf(&mut object);
        let definitions = std::mem::take(&mut object.maps);
        let bound: Vec<_> = maps
            .filter_map(|(name, map)| {
                Some((name, map_fd(map)?.as_raw_fd(), definitions.get(name)?))
            })
            .collect();
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(bound.into_iter(), &text)?;
        object.relocate_calls(&text)?;
        object.sanitize_functions(aya::features());
        Ok(Self { object, btf })
    }

    /// Loads programs, so many at once, each on a thread of its own.
    pub fn load_all(
        &self,
        names: &BTreeMap<&'static str, Attachment>,
        at_once: usize,
    ) -> Vec<(&'static str, io::Result<LoadedProgram>)> {
        let names: Vec<_> = names.iter().map(|(name, attachment)| (*name, *attachment)).collect();
        names.chunks(at_once.max(1)).flat_map(|names| self.load_together(names)).collect()
    }

    fn load_together(
        &self,
        names: &[(&'static str, Attachment)],
    ) -> Vec<(&'static str, io::Result<LoadedProgram>)> {
        thread::scope(|scope| {
            let threads: Vec<_> = names
                .iter()
                .map(|(name, attachment)| (*name, scope.spawn(|| self.load(name, *attachment))))
                .collect();
            threads
                .into_iter()
                .map(|(name, thread)| (name, thread.join().unwrap_or_else(|it| resume_unwind(it))))
                .collect()
        })
    }

    /// Loads a program for multi-uprobe links.
    pub fn load(&self, name: &str, attachment: Attachment) -> io::Result<LoadedProgram> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no such program in the object");
        let program = self.object.programs.get(name).ok_or_else(missing)?;
        let function = self.object.functions.get(&program.function_key()).ok_or_else(missing)?;
        let func_info = function.func_info.func_info_bytes();
        let mut attr = zeroed_attr();
        // SAFETY: an all-zero attribute is a valid value of every member of the union.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        for (to, from) in load.prog_name.iter_mut().zip(&name.as_bytes()[..name.len().min(15)]) {
            *to = *from as core::ffi::c_char;
        }
        load.prog_type = BPF_PROG_TYPE_KPROBE as u32;
        load.expected_attach_type = attachment.attach_type();
        load.insns = function.instructions.as_ptr() as u64;
        load.insn_cnt = function.instructions.len() as u32;
        load.license = program.license.as_ptr() as u64;
        if let Some(btf) = &self.btf
            && function.func_info_rec_size > 0
        {
            load.prog_btf_fd = btf.as_raw_fd() as u32;
            load.func_info = func_info.as_ptr() as u64;
            load.func_info_cnt = function.func_info.len() as u32;
            load.func_info_rec_size = function.func_info_rec_size as u32;
        }
        // SAFETY: every pointer in the attribute (instructions, license, function records) is
        // borrowed from values that live until after the call.
        let loaded = unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr) };
        match loaded {
            Ok(fd) => Ok(LoadedProgram { fd, attachment }),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(error),
            Err(error) => {
                let mut log = vec![0; VERIFIER_LOG_BYTES];
                // SAFETY: an all-zero attribute is a valid value of every member of the union.
                let load = unsafe { &mut attr.__bindgen_anon_3 };
                load.log_level = 1;
                load.log_buf = log.as_mut_ptr() as u64;
                load.log_size = log.len() as u32;
                // SAFETY: as above, and the log lives until after the call.
                let again = unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr) };
                again.map(|fd| LoadedProgram { fd, attachment }).map_err(|_| with_log(error, &log))
            }
        }
    }
}

impl LoadedProgram {
    /// What it is attached as.
    pub fn attachment(&self) -> Attachment {
        self.attachment
    }

    /// Another handle on it.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, attachment: self.attachment })
    }

    /// Arms all sites in a file, for one process.
    pub fn link(
        &self,
        file: BorrowedFd<'_>,
        sites: &[Site],
        pid: NonZeroU32,
        at_return: bool,
    ) -> io::Result<MultiLink> {
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let flags = if at_return { BPF_F_UPROBE_MULTI_RETURN } else { 0 };
        self.link_path(&path, sites, pid.get(), flags).map(|fd| MultiLink { fd })
    }

    fn link_path(&self, path: &CStr, sites: &[Site], pid: u32, flags: u32) -> io::Result<OwnedFd> {
        let offsets: Vec<u64> = sites.iter().map(|site| site.offset).collect();
        let cookies: Vec<u64> = sites.iter().map(|site| site.cookie).collect();
        let mut attr = zeroed_attr();
        // SAFETY: an all-zero attribute is a valid value of every member of the unions.
        unsafe {
            let create = &mut attr.link_create;
            create.__bindgen_anon_1.prog_fd = self.fd.as_raw_fd() as u32;
            create.attach_type = self.attachment.attach_type();
            let multi = &mut create.__bindgen_anon_3.uprobe_multi;
            multi.path = path.as_ptr() as u64;
            multi.offsets = offsets.as_ptr() as u64;
            multi.cookies = cookies.as_ptr() as u64;
            multi.cnt = sites.len() as u32;
            multi.flags = flags;
            multi.pid = pid;
        }
        // SAFETY: path, offsets and cookies live until after the call and have `cnt` elements.
        unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr) }
    }
}

/// An error with the end of the verifier's log, which says why.
fn with_log(error: io::Error, log: &[u8]) -> io::Error {
    // The kernel writes a C string; what is behind it is left from earlier attempts.
    let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().rev().take(VERIFIER_LOG_LINES).collect();
    let tail: Vec<&str> = lines.into_iter().rev().collect();
    io::Error::new(error.kind(), format!("{error}; the verifier says:\n{}", tail.join("\n")))
}

/// Whether this kernel has multi-uprobe links of the program's kind that filter by process.
///
/// `/` is no regular file, so that no probe can come of these calls: a kernel that knows the link
/// type refuses it with `EBADF`; one with the right filter refuses the impossible pid with
/// `EINVAL` before it looks at the path.
pub fn is_supported(program: &LoadedProgram) -> bool {
    let refusal = |pid| {
        let site = Site { offset: 0, cookie: 0 };
        program.link_path(c"/", &[site], pid, 0).err().and_then(|error| error.raw_os_error())
    };
    refusal(0) == Some(libc::EBADF) && refusal(u32::MAX) == Some(libc::EINVAL)
}

/// BTF of the object, which programs with callbacks need; without it they still load if they have
/// none.
fn load_btf(object: &mut Object) -> Option<OwnedFd> {
    let features = aya::features().btf()?;
    let btf = object.fixup_and_sanitize_btf(features).ok()??.to_bytes();
    let mut attr = zeroed_attr();
    // SAFETY: an all-zero attribute is a valid value of every member of the union.
    let load = unsafe { &mut attr.__bindgen_anon_7 };
    load.btf = btf.as_ptr() as u64;
    load.btf_size = btf.len() as u32;
    // SAFETY: the BTF bytes live until after the call.
    unsafe { bpf(bpf_cmd::BPF_BTF_LOAD, &mut attr) }.ok()
}

fn map_fd(map: &Map) -> Option<BorrowedFd<'_>> {
    use std::os::fd::AsFd as _;
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => Some(data.fd().as_fd()),
        _ => None,
    }
}

fn zeroed_attr() -> bpf_attr {
    // SAFETY: a union of plain integers and pointers-as-integers; all-zero is valid, and the
    // kernel wants unused fields to be zero.
    unsafe { std::mem::zeroed() }
}

/// The `bpf` system call, for commands that return a descriptor.
///
/// # Safety
/// Every pointer in `attr` that `command` reads must be valid for the call.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: by contract; the size is the attribute's own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}
