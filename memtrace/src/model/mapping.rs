//! The target's address space.

/// Executable mappings that the kernel makes; all others without a file hold generated code.
pub const KERNEL_CODE: [&str; 3] = ["[vdso]", "[vsyscall]", "[uprobes]"];

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Offset of `start` in the file.
    pub file_offset: u64,
    /// Which file; `None` for anonymous memory.
    pub file: Option<FileId>,
    /// Path or `[name]` as the kernel prints it, without ` (deleted)`; may be empty.
    pub name: String,
    /// The file's last link is gone.
    pub deleted: bool,
    /// Readable, writable, executable.
    pub permissions: Permissions,
}

/// A file's identity on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Device as (major, minor).
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
}

/// Permissions of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// `r`
    pub read: bool,
    /// `w`
    pub write: bool,
    /// `x`
    pub execute: bool,
}

impl Mapping {
    /// Whether the address is inside.
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// The file offset that an address inside maps.
    pub fn offset_of(&self, address: u64) -> u64 {
        address - self.start + self.file_offset
    }

    /// File name without directories, or the `[name]`.
    pub fn base_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}
