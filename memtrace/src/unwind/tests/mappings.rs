use memtrace_common::unwind::table::{CodeMapping, MAX_MAPPINGS};

use super::*;
use crate::{
    elf::CodeSegment,
    unwind::mappings::{code_mapping, code_mappings},
};

/// As in a position-independent library whose code begins at 0x26000.
const TEXT: CodeSegment =
    CodeSegment { address: 0x2_6000, file_offset: 0x2_6000, size_bytes: 0x15_50fc };

fn object(base: u64, segments: &[CodeSegment]) -> ObjectRef {
    ObjectRef { first_page: 7, pages: 3, base, segments: segments.to_vec() }
}

/// The address, as the file states it, that an address of the process is.
fn stated(mapping: &CodeMapping, object: &ObjectRef, address: u64) -> u64 {
    address.wrapping_sub(mapping.bias).wrapping_add(object.base)
}

#[test]
fn addresses_lead_to_the_files_addresses() {
    let object = object(0x2_6400, &[TEXT]);
    let start = 0x7f00_0002_6000;
    let mapping = code_mapping(&code(start, start + 0x15_6000, 0x2_6000), Some(&object));
    assert_eq!((mapping.first_page, mapping.pages), (7, 3));
    assert_eq!(mapping.bias, 0x7f00_0002_6400);
    assert_eq!(stated(&mapping, &object, start + 0x1234), 0x2_7234);
}

#[test]
fn a_segment_need_not_begin_on_a_page_nor_lie_at_its_file_offset() {
    let segment = CodeSegment { address: 0x40_1f20, file_offset: 0xf20, size_bytes: 0x1000 };
    let object = object(0x40_1c00, &[segment]);
    let mapping = code_mapping(&code(0x40_1000, 0x40_3000, 0), Some(&object));
    assert_eq!(mapping.bias, 0x40_1c00, "a program at a fixed address is not moved");
}

#[test]
fn a_part_of_a_segment_has_the_segments_bias() {
    let object = object(0x2_6000, &[TEXT]);
    let start = 0x7f00_0010_0000;
    let mapping = code_mapping(&code(start, start + 0x1000, 0x10_0000), Some(&object));
    assert_eq!(stated(&mapping, &object, start + 5), 0x10_0005);
}

#[test]
fn each_of_several_segments_has_its_own_place() {
    let init = CodeSegment { address: 0x1_0000, file_offset: 0x1000, size_bytes: 0x800 };
    let text = CodeSegment { address: 0x5_0000, file_offset: 0x3000, size_bytes: 0x2000 };
    let object = object(0x1_0000, &[init, text]);
    let first = code_mapping(&code(0x7f00_0001_0000, 0x7f00_0001_1000, 0x1000), Some(&object));
    let second = code_mapping(&code(0x7f00_0005_0000, 0x7f00_0005_2000, 0x3000), Some(&object));
    assert_eq!(stated(&first, &object, 0x7f00_0001_0010), 0x1_0010);
    assert_eq!(stated(&second, &object, 0x7f00_0005_0010), 0x5_0010);
}

#[test]
fn a_page_of_the_file_that_two_segments_share_is_mapped_for_the_right_one() {
    // The first ends, and the second begins, in the page at 0x1000. Of the second one's mapping
    // more bytes are the first one's.
    let first = CodeSegment { address: 0x1000, file_offset: 0x1000, size_bytes: 0xf00 };
    let second = CodeSegment { address: 0x2f00, file_offset: 0x1f00, size_bytes: 0x200 };
    let object = object(0x1000, &[first, second]);
    let bias = 0x7f00_0000_0000;
    let one = code_mapping(&code(bias + 0x1000, bias + 0x2000, 0x1000), Some(&object));
    let two = code_mapping(&code(bias + 0x2000, bias + 0x4000, 0x1000), Some(&object));
    assert_eq!(stated(&one, &object, bias + 0x1010), 0x1010);
    assert_eq!(stated(&two, &object, bias + 0x2f10), 0x2f10);
}

#[test]
fn code_without_rows_has_no_pages() {
    let mapping = code(0x1000, 0x2000, 0x2_6000);
    let no_rows = ObjectRef { pages: 0, ..object(0, &[TEXT]) };
    let elsewhere = code(0x1000, 0x2000, 0x100_0000);
    let plain = CodeMapping { start: 0x1000, end: 0x2000, ..CodeMapping::default() };
    assert_eq!(code_mapping(&mapping, None), plain);
    assert_eq!(code_mapping(&mapping, Some(&no_rows)), plain);
    assert_eq!(code_mapping(&elsewhere, Some(&object(0, &[TEXT]))), plain);
}

#[test]
fn hostile_segments_do_not_overflow() {
    let huge = CodeSegment { address: 1, file_offset: 1, size_bytes: u64::MAX - 1 };
    let mapping = code(0x1000, 0x2000, u64::MAX - 0xfff);
    assert_eq!(code_mapping(&mapping, Some(&object(0, &[huge]))).pages, 3);
}

#[test]
fn only_executable_mappings_count_and_they_ascend() {
    let data = Mapping { permissions: Permissions::default(), ..code(0x3000, 0x4000, 0) };
    let mappings = [code(0x5000, 0x6000, 0), data, code(0x1000, 0x2000, 0)];
    let (laid_out, left_out) = code_mappings(&mappings, |_| None);
    let starts: Vec<_> = laid_out.mappings[..laid_out.count as usize]
        .iter()
        .map(|mapping| (mapping.start, mapping.end))
        .collect();
    assert_eq!((starts, left_out), (vec![(0x1000, 0x2000), (0x5000, 0x6000)], 0));
}

#[test]
fn neighbours_that_continue_each_other_are_joined() {
    let object = object(0x2_6000, &[TEXT]);
    let mappings = [
        code(0x2_6000, 0x2_8000, 0x2_6000),
        code(0x2_8000, 0x2_9000, 0x2_8000),
        code(0x2_9000, 0x2_a000, 0x2_7000),
    ];
    let (laid_out, _) = code_mappings(&mappings, |_| Some(&object));
    assert_eq!(laid_out.count, 2, "the third shows another part of the file");
    assert_eq!((laid_out.mappings[0].start, laid_out.mappings[0].end), (0x2_6000, 0x2_9000));
    let (generated, _) = code_mappings(&mappings, |_| None);
    assert_eq!(generated.count, 1);
}

#[test]
fn of_too_many_mappings_those_with_rows_are_kept_and_the_rest_is_counted() {
    let object = object(0, &[CodeSegment { address: 0, file_offset: 0, size_bytes: 0x1000 }]);
    let mappings: Vec<_> =
        (0..MAX_MAPPINGS as u64 + 10).map(|n| code(n * 0x2000, n * 0x2000 + 0x1000, 0)).collect();
    let last = mappings.last().unwrap().start;
    let has_rows = |mapping: &Mapping| mapping.start == last;
    let (laid_out, left_out) =
        code_mappings(&mappings, |mapping| has_rows(mapping).then_some(&object));
    assert_eq!((laid_out.count as usize, left_out), (MAX_MAPPINGS, 10));
    assert_eq!(laid_out.mappings[MAX_MAPPINGS - 1].start, last);
    assert!(laid_out.mappings.is_sorted_by_key(|mapping| mapping.start));
}
