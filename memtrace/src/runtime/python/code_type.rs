//! What a CPython says of its code objects itself, in every version: `PyCode_Type` has their size
//! and, for attributes, the offsets of members.

use super::{code::Objects, objects::word, offsets::TP_BASICSIZE, refusal::Refusal};
use crate::model::memory::TargetMemory;

/// `tp_members` in `PyTypeObject`.
const TP_MEMBERS: u32 = 240;

/// `sizeof(PyMemberDef)`: name, type, offset, flags, documentation.
const MEMBER_BYTES: usize = 40;

/// `offset` in `PyMemberDef`.
const MEMBER_OFFSET: u32 = 16;

/// The most members looked at; code objects have less than 20.
const MAX_MEMBERS: usize = 64;

/// Compares what it says with the offsets that are about to be used.
///
/// Errors: [`Refusal::OtherLayout`] where they differ, [`Refusal::Unreadable`].
pub(super) fn check(objects: &Objects, memory: &impl TargetMemory) -> Result<(), Refusal> {
    let unreadable = Refusal::Unreadable { what: "PyCode_Type" };
    let mut start = [0; TP_MEMBERS as usize + 8];
    if !memory.read(objects.code_type, &mut start) {
        return Err(unreadable);
    }
    let other_layout = Refusal::OtherLayout { version: objects.version };
    if word(&start, TP_BASICSIZE) != u64::from(objects.offsets.code.basic_size) {
        return Err(other_layout);
    }
    let members = members(word(&start, TP_MEMBERS), memory).ok_or(unreadable)?;
    let agree = |(name, offset): &(&str, u32)| stated(&members, name) == Some((*offset).into());
    expected(objects).iter().all(agree).then_some(()).ok_or(other_layout)
}

/// The members that every version has for attributes.
fn expected(objects: &Objects) -> Vec<(&'static str, u32)> {
    let code = &objects.offsets.code;
    let mut expected = vec![
        ("co_firstlineno", code.first_line),
        ("co_filename", code.filename),
        ("co_name", code.name),
    ];
    expected.extend(code.qualname.map(|qualname| ("co_qualname", qualname)));
    expected
}

fn stated(members: &[(String, u64)], wanted: &str) -> Option<u64> {
    members.iter().find(|(name, _)| name == wanted).map(|(_, offset)| *offset)
}

/// Names and offsets, up to the one without a name.
fn members(table: u64, memory: &impl TargetMemory) -> Option<Vec<(String, u64)>> {
    let mut members = Vec::new();
    for index in 0..MAX_MEMBERS {
        let mut member = [0; MEMBER_BYTES];
        let address = table.checked_add((index * MEMBER_BYTES) as u64)?;
        memory.read(address, &mut member).then_some(())?;
        match word(&member, 0) {
            0 => break,
            name => members.push((c_string(name, memory)?, word(&member, MEMBER_OFFSET))),
        }
    }
    Some(members)
}

/// A short name; the end of a longer one is left away.
fn c_string(address: u64, memory: &impl TargetMemory) -> Option<String> {
    let mut bytes = [0; 24];
    memory.read(address, &mut bytes).then_some(())?;
    let name = bytes.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}
