//! Loaded BPF programs, as the kernel shows them.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Commands of bpf(2), include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// The member of `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct GetFd {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

const BPF_PROG_TYPE_KPROBE: u32 = 2;

/// The head of the member of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// The member of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct GetInfo {
    fd: u32,
    info_bytes: u32,
    info: u64,
}

/// The head of `struct bpf_prog_info`; the kernel fills as much as it is given.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ProgInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_bytes: u32,
    translated_bytes: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    created_by_uid: u32,
    map_count: u32,
    map_ids: u64,
    name: [u8; 16],
}

/// A loaded program.
#[derive(Debug)]
pub struct Program {
    /// The first 15 bytes of its name.
    pub name: String,
    /// Its machine code; empty when it is interpreted.
    pub machine_code: Vec<u8>,
}

fn bpf<T>(command: libc::c_long, attribute: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attribute` is a member of `union bpf_attr` for this command and lives through the
    // call; buffers that it points to are the caller's care.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The ids of the BPF programs that a process holds.
pub fn programs_of(pid: u32) -> BTreeSet<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let ids = |text: String| -> Vec<u32> {
        let values = text.lines().filter_map(|line| line.strip_prefix("prog_id:"));
        values.filter_map(|value| value.trim().parse().ok()).collect()
    };
    texts.flat_map(ids).collect()
}

fn open(id: u32) -> io::Result<OwnedFd> {
    let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut GetFd { id, ..GetFd::default() })?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Whether a program is loaded.
pub fn is_loaded(id: u32) -> bool {
    match open(id) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => panic!("program {id}: {error}"),
    }
}

fn info(program: &OwnedFd, jited: &mut [u8]) -> ProgInfo {
    let mut info = ProgInfo {
        jited_bytes: jited.len() as u32,
        jited: if jited.is_empty() { 0 } else { jited.as_mut_ptr() as u64 },
        ..ProgInfo::default()
    };
    let mut attribute = GetInfo {
        fd: program.as_raw_fd() as u32,
        info_bytes: size_of::<ProgInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // The kernel writes to `info` and to `jited`, both of which live through the call.
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attribute).unwrap();
    info
}

fn machine_code(program: &OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; info(program, &mut []).jited_bytes as usize];
    info(program, &mut bytes);
    bytes
}

/// A loaded program.
pub fn program(id: u32) -> Program {
    let fd = open(id).unwrap();
    let machine_code = machine_code(&fd);
    let info = info(&fd, &mut []);
    let name = info.name.split(|byte| *byte == 0).next().unwrap_or_default();
    Program { name: String::from_utf8_lossy(name).into_owned(), machine_code }
}

/// Whether x86-64 machine code sets up a per-CPU private stack: `add %gs:offset, %r9`
/// (`emit_priv_frame_ptr` in arch/x86/net/bpf_jit_comp.c; nothing else adds to r9 like that).
pub fn has_private_stack(machine_code: &[u8]) -> bool {
    machine_code.windows(5).any(|code| code == [0x65, 0x4c, 0x03, 0x0c, 0x25])
}

/// Loads a program of the uprobes' type that does nothing but use 128 bytes of stack, and returns
/// its machine code.
pub fn machine_code_of_a_program_with_a_stack() -> Vec<u8> {
    // include/uapi/linux/bpf.h: `*(u64 *)(r10 - 128) = 0; r0 = 0; exit`.
    let instructions: [u64; 3] = [0x0000_0000_ff80_0a7a, 0xb7, 0x95];
    let mut attribute = Load {
        kind: BPF_PROG_TYPE_KPROBE,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
    };
    // The kernel reads the instructions and the license, both of which live through the call.
    let fd = bpf(BPF_PROG_LOAD, &mut attribute).unwrap();
    // SAFETY: the kernel just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    machine_code(&fd)
}
