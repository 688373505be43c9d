//! Which part of a process's address space is which part of an object.

use memtrace_common::unwind::table::{CodeMapping, CodeMappings, MAX_MAPPINGS};

use super::table::ObjectRef;
use crate::{elf::CodeSegment, model::mapping::Mapping};

/// Granularity of mappings on x86-64.
const MAP_BYTES: u64 = 4096;

/// Says where the code of a process is; `object_of` tells the object that a mapping shows, `None`
/// for code without one (JIT).
///
/// Neighbours that continue each other are joined. When there are more than [`MAX_MAPPINGS`], those
/// with rows go first. Also returned: how many had to be left out.
pub fn code_mappings<'o>(
    mappings: &[Mapping],
    object_of: impl Fn(&Mapping) -> Option<&'o ObjectRef>,
) -> (Box<CodeMappings>, u64) {
    let executable = mappings.iter().filter(|mapping| mapping.permissions.execute);
    let mut code: Vec<_> =
        executable.map(|mapping| code_mapping(mapping, object_of(mapping))).collect();
    code.sort_by_key(|mapping| mapping.start);
    code.dedup_by(join);
    let left_out = code.len().saturating_sub(MAX_MAPPINGS);
    if left_out > 0 {
        code.sort_by_key(|mapping| mapping.pages == 0);
        code.truncate(MAX_MAPPINGS);
        code.sort_by_key(|mapping| mapping.start);
    }
    (lay_out(&code), left_out as u64)
}

/// One mapping. An object whose segments do not cover it is none.
pub fn code_mapping(mapping: &Mapping, object: Option<&ObjectRef>) -> CodeMapping {
    let without_rows = CodeMapping { start: mapping.start, end: mapping.end, ..Default::default() };
    let Some(object) = object.filter(|object| object.pages > 0) else { return without_rows };
    let Some(segment) = mapped_segment(mapping, &object.segments) else { return without_rows };
    CodeMapping {
        bias: load_bias(mapping, segment).wrapping_add(object.base),
        first_page: object.first_page,
        pages: object.pages,
        ..without_rows
    }
}

/// What the loader added to the addresses that the file states.
fn load_bias(mapping: &Mapping, segment: &CodeSegment) -> u64 {
    let file_start = mapping.start.wrapping_sub(mapping.file_offset);
    file_start.wrapping_add(segment.file_offset).wrapping_sub(segment.address)
}

/// The segment that a mapping shows. The loader maps whole pages, so that the ends of two segments
/// may be in one page of the file, and both mappings show it: then it is the one that has most
/// of its bytes in the mapping.
fn mapped_segment<'s>(mapping: &Mapping, segments: &'s [CodeSegment]) -> Option<&'s CodeSegment> {
    let shown = |segment: &CodeSegment| {
        let start = mapping.file_offset.max(segment.file_offset);
        let mapped_end = mapping.file_offset.saturating_add(mapping.end - mapping.start);
        mapped_end.min(segment.file_offset + segment.size_bytes).saturating_sub(start)
    };
    let best = segments.iter().max_by_key(|segment| (is_whole(mapping, segment), shown(segment)));
    best.filter(|segment| shown(segment) > 0)
}

/// Whether the mapping is just what the loader makes of the segment.
fn is_whole(mapping: &Mapping, segment: &CodeSegment) -> bool {
    let first = segment.file_offset & !(MAP_BYTES - 1);
    let size = segment.file_offset - first + segment.size_bytes;
    let mapped = size.checked_next_multiple_of(MAP_BYTES);
    mapping.file_offset == first && mapped == Some(mapping.end - mapping.start)
}

/// Joins a mapping with the one before it, for [`Vec::dedup_by`].
fn join(next: &mut CodeMapping, previous: &mut CodeMapping) -> bool {
    let place = |mapping: &CodeMapping| (mapping.bias, mapping.first_page, mapping.pages);
    let joined = previous.end == next.start && place(previous) == place(next);
    if joined {
        previous.end = next.end;
    }
    joined
}

fn lay_out(code: &[CodeMapping]) -> Box<CodeMappings> {
    let mappings = [CodeMapping::default(); MAX_MAPPINGS];
    let mut laid_out = Box::new(CodeMappings { count: code.len() as u64, mappings });
    laid_out.mappings[..code.len()].copy_from_slice(code);
    laid_out
}
