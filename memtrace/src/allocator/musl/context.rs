//! Finds mallocng's context without symbols: it begins with a random secret, and every page of
//! metas that it leads to begins with the same.

use std::collections::{HashSet, VecDeque};

use super::{
    MuslError,
    layout::{Group, META_AREA_BYTES, MetaArea},
};
use crate::{
    allocator::present::{NoResidency, Present},
    model::{
        census::Extent,
        memory::{Residency, TargetMemory},
    },
};

/// From `secret` to `meta_area_head` in words, where the size of pages is known to the compiler
/// (x86-64) and where it is a field of the context (aarch64).
const HEAD_WORDS: [usize; 2] = [7, 8];

/// Groups that are looked at; 48 bytes each. 2^20 groups hold some 10 GiB.
const MAX_GROUPS: usize = 1 << 20;

/// The pages of metas, and what they say.
pub(super) struct Metas {
    pub(super) areas: Vec<Extent>,
    pub(super) groups: Vec<Group>,
}

/// Finds the context in an object's writable data, and reads all metas. `None` when there is none.
pub(super) fn find<M: TargetMemory, R: Residency>(
    present: &mut Present<'_, M, R>,
    data: &[Extent],
) -> Result<Option<Metas>, MuslError> {
    for (secret, head) in candidates(present, data)? {
        let metas = read(present, secret, head)?;
        // A small number can be the same by chance, a random one of 64 bits cannot.
        if !metas.groups.is_empty() || (secret > u64::from(u32::MAX) && !metas.areas.is_empty()) {
            return Ok(Some(metas));
        }
    }
    Ok(None)
}

/// Each word, and the word so far behind it that can be the address of a page.
fn candidates<M: TargetMemory, R: Residency>(
    present: &Present<'_, M, R>,
    data: &[Extent],
) -> Result<Vec<(u64, u64)>, NoResidency> {
    let mut found = Vec::new();
    for range in data {
        let mut before: VecDeque<u64> = VecDeque::new();
        let mut expected = 0;
        present.words(*range, |at, word| {
            if at != expected {
                before.clear();
            }
            expected = at + 8;
            if word != 0 && word % META_AREA_BYTES as u64 == 0 && word < 1 << 56 {
                let secrets = HEAD_WORDS.iter().filter_map(|words| before.get(words - 1));
                found.extend(secrets.filter(|it| **it != 0).map(|secret| (*secret, word)));
            }
            before.push_front(word);
            before.truncate(HEAD_WORDS[1]);
        })?;
    }
    Ok(found)
}

/// The list of pages of metas, as far as it holds together.
fn read<M: TargetMemory, R: Residency>(
    present: &mut Present<'_, M, R>,
    secret: u64,
    head: u64,
) -> Result<Metas, MuslError> {
    let mut metas = Metas { areas: Vec::new(), groups: Vec::new() };
    let mut seen = HashSet::new();
    let mut next = head;
    let mut bytes = [0; META_AREA_BYTES];
    while next != 0 && seen.insert(next) && present.read(next, &mut bytes) {
        let area = MetaArea::decode(next, &bytes);
        if area.check != secret {
            break;
        }
        if metas.groups.len() + area.groups.len() > MAX_GROUPS || seen.len() > MAX_GROUPS {
            return Err(MuslError::TooLarge);
        }
        metas.areas.push(Extent { start: next, end: next + META_AREA_BYTES as u64 });
        metas.groups.extend(area.groups);
        next = area.next;
    }
    Ok(metas)
}
