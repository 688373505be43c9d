//! Where the running kernel keeps a thread's thread pointer and its process id, from its BTF.
//!
//! Only these offsets are wanted of more than 100,000 types, and only when the target is a Python or
//! its children are followed:
//! the types are passed over without making anything of them, which takes some milliseconds.
//! (aya-obj does not show members, and btf-rs has another license.)

mod functions;
mod growth;
mod oom;

use std::{fs, io, ops::Range, path::Path};

use thiserror::Error;

pub use self::{functions::functions_of_kernel, growth::growth_config, oom::oom_layout};

/// The BTF of the running kernel.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The thread pointer in the kernel's `task_struct` (arch/*/include/asm/processor.h).
#[cfg(target_arch = "x86_64")]
const THREAD_POINTER: &[&str] = &["thread", "fsbase"];
/// Not tested.
#[cfg(target_arch = "aarch64")]
const THREAD_POINTER: &[&str] = &["thread", "uw", "tp_value"];

/// Why the offset is not known.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The kernel was built without it, or does not show it.
    #[error("the kernel shows no BTF (CONFIG_DEBUG_INFO_BTF): cannot read {path}: {source}")]
    Missing {
        /// Where it should be.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It has not got the offset.
    #[error("the kernel's BTF does not say where {what} is")]
    Unknown {
        /// A type or a member, or the types as such.
        what: &'static str,
    },
}

/// The offset of the thread pointer in the kernel's `task_struct`, in bytes.
///
/// # Errors
/// A [`BtfError`], in words for the user.
pub fn task_thread_pointer(btf: &Path) -> Result<u64, BtfError> {
    task_member(btf, THREAD_POINTER)
}

/// The offset of the thread group id, which is the process id, in the kernel's `task_struct`, in
/// bytes.
///
/// # Errors
/// A [`BtfError`].
pub fn task_tgid(btf: &Path) -> Result<u64, BtfError> {
    task_member(btf, &["tgid"])
}

fn task_member(btf: &Path, path: &[&'static str]) -> Result<u64, BtfError> {
    member_offset(&read(btf)?, "task_struct", path)
}

fn read(btf: &Path) -> Result<Vec<u8>, BtfError> {
    fs::read(btf).map_err(|source| BtfError::Missing { path: btf.display().to_string(), source })
}

/// The offset in bytes of a member of a member of ... a struct.
fn member_offset(bytes: &[u8], of: &'static str, path: &[&'static str]) -> Result<u64, BtfError> {
    let btf = Btf::parse(bytes).ok_or(BtfError::Unknown { what: "anything" })?;
    let mut at = btf.struct_named(of).ok_or(BtfError::Unknown { what: of })?;
    let mut bits = 0;
    let mut names = path.iter().peekable();
    while let Some(name) = names.next() {
        let member = btf.member(&at, name).ok_or(BtfError::Unknown { what: name })?;
        bits += u64::from(member.bit_offset);
        // To find a type by its number is a pass over all of them.
        if names.peek().is_some() {
            at = btf.type_with_id(member.type_id).ok_or(BtfError::Unknown { what: name })?;
        }
    }
    Ok(bits / 8)
}

/// Layout of BTF: Documentation/bpf/btf.rst, include/uapi/linux/btf.h.
const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
/// Also of a parameter.
const ENUMERATOR_BYTES: usize = 8;
const KIND_POINTER: u32 = 2;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FORWARD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNCTION: u32 = 12;

/// Bytes that follow a type of this kind.
fn trailer_bytes(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // Ptr, fwd, typedef, volatile, const, restrict, func, float, type tag
        KIND_POINTER | KIND_FORWARD..=KIND_FUNCTION | 16 | 18 => 0,
        // Int, var, decl tag
        1 | 14 | 17 => 4,
        // Array
        3 => 12,
        // Struct, union, datasec, enum64
        KIND_STRUCT | KIND_UNION | 15 | 19 => count * MEMBER_BYTES,
        // Enum, func proto
        KIND_ENUM | 13 => count * ENUMERATOR_BYTES,
        _ => return None,
    })
}

/// The two sections.
struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

/// A type in the types' section.
struct Type {
    name: u32,
    kind: u32,
    /// Of a struct, a union or an enum; of a pointer, a typedef and the like, what they refer to.
    size_bytes: u32,
    /// Its bit offsets share their words with sizes.
    has_sizes: bool,
    trailer: Range<usize>,
}

impl Type {
    /// The number of the type that a pointer or a typedef is of.
    fn refers_to(&self) -> u32 {
        self.size_bytes
    }
}

struct Member {
    type_id: u32,
    bit_offset: u32,
}

impl<'a> Btf<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(..2)? != MAGIC.to_le_bytes() || bytes.len() < HEADER_BYTES {
            return None;
        }
        let header = word(bytes, 4)? as usize;
        let section = |field: usize| {
            let start = header.checked_add(word(bytes, field)? as usize)?;
            bytes.get(start..start.checked_add(word(bytes, field + 4)? as usize)?)
        };
        Some(Self { types: section(8)?, strings: section(16)? })
    }

    /// All types, from number 1 on, as far as they can be understood.
    fn types(&self) -> impl Iterator<Item = Type> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let found = self.type_at(next)?;
            next = found.trailer.end;
            Some(found)
        })
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let info = word(self.types, at + 4)?;
        let kind = (info >> 24) & 0x1f;
        let start = at + TYPE_BYTES;
        let trailer = start..start + trailer_bytes(kind, info as usize & 0xffff)?;
        let (name, size_bytes) = (word(self.types, at)?, word(self.types, at + 8)?);
        Some(Type { name, kind, size_bytes, has_sizes: info >> 31 != 0, trailer })
    }

    fn struct_named(&self, name: &str) -> Option<Type> {
        self.types().find(|found| found.kind == KIND_STRUCT && self.is_named(found.name, name))
    }

    fn type_with_id(&self, id: u32) -> Option<Type> {
        self.types().nth((id as usize).checked_sub(1)?)
    }

    fn member(&self, of: &Type, name: &str) -> Option<Member> {
        if of.kind != KIND_STRUCT {
            return None;
        }
        let mut places = of.trailer.clone().step_by(MEMBER_BYTES);
        let at = places
            .find(|at| word(self.types, *at).is_some_and(|found| self.is_named(found, name)))?;
        let offset = word(self.types, at + 8)?;
        let bit_offset = if of.has_sizes { offset & 0xff_ffff } else { offset };
        Some(Member { type_id: word(self.types, at + 4)?, bit_offset })
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        let found = self.strings.get(offset as usize..);
        let rest = found.and_then(|found| found.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests;
