use memtrace_common::unwind::table::{CHUNK_WORDS, MAX_RULES, PAGE_BYTES};

use super::*;
use crate::unwind::{compile::CompileStats, table::TableFull};

/// An object with rows at these addresses, each with a rule `sp + offset`.
fn object(rows: &[(u64, i32)]) -> ObjectRows {
    let mut rules = vec![Rule::default()];
    let mut number = |wanted| {
        let known = rules.iter().rposition(|rule| *rule == wanted);
        known.unwrap_or_else(|| {
            rules.push(wanted);
            rules.len() - 1
        }) as u32
    };
    let mut row = |&(address, offset): &(u64, i32)| ObjectRow {
        offset: address as u32,
        rule: number(rule(CfaRule::Sp, offset)),
    };
    let rows = rows.iter().map(&mut row).collect();
    ObjectRows { base: 0, rows, rules, segments: Vec::new(), stats: CompileStats::default() }
}

#[test]
fn the_row_before_an_address_holds_over_page_ends() {
    let object = object(&[(0x40_1010, 8), (0x40_1020, 16), (0x40_5000, 24)]);
    let (tables, added) = tables_of(&object);
    assert_eq!((added.base, added.pages), (0x40_1000, 17));
    let offset_at = |address| tables.lookup(&added, address).cfa_offset;
    assert_eq!([0x40_1010, 0x40_101f, 0x40_1020, 0x40_1400].map(offset_at), [8, 8, 16, 16]);
    assert_eq!([0x40_4fff, 0x40_5000, 0x40_53ff].map(offset_at), [16, 24, 24]);
    for outside in [0, 0x40_0fff, 0x40_100f, 0x40_5400, u64::MAX] {
        assert_eq!(tables.lookup(&added, outside), Rule::default(), "{outside:#x}");
    }
}

#[test]
fn objects_lie_behind_each_other_and_share_rules() {
    let mut tables = Tables::new(Limits::DEFAULT);
    let first = tables.add_object(key(1), &object(&[(0x1000, 8), (0x1008, 16)])).unwrap().clone();
    let second = tables.add_object(key(2), &object(&[(0x2004, 16)])).unwrap().clone();
    assert_eq!((first.first_page, first.pages), (0, 1));
    assert_eq!((second.first_page, second.pages), (2, 1));
    assert_eq!(tables.rules().len(), 3);
    assert_eq!(tables.rows().len(), 5);
    assert_eq!(tables.lookup(&second, 0x2004).cfa_offset, 16);
    assert_eq!(tables.lookup(&second, 0x2003), Rule::default());
    assert_eq!(tables.lookup(&first, 0x1007).cfa_offset, 8);
}

#[test]
fn an_object_is_added_once() {
    let mut tables = Tables::new(Limits::DEFAULT);
    let rows = object(&[(0x1000, 8)]);
    let first = tables.add_object(key(1), &rows).unwrap().clone();
    assert_eq!(tables.add_object(key(1), &rows).unwrap(), &first);
    assert_eq!(tables.object(&key(1)), Some(&first));
    assert_eq!(tables.object(&key(2)), None);
    assert_eq!((tables.rows().len(), tables.index().len()), (2, 2));
}

#[test]
fn an_object_without_rows_has_no_pages() {
    let (tables, added) = tables_of(&object(&[]));
    assert_eq!(added.pages, 0);
    assert!(tables.rows().is_empty() && tables.index().is_empty());
    assert_eq!(tables.lookup(&added, 0), Rule::default());
}

#[test]
fn what_does_not_fit_is_said_and_changes_nothing() {
    let limits = Limits { rows: 3, pages: 3, rules: 3 };
    let cases = [
        (object(&[(0, 8), (1, 16), (2, 8)]), "rows", 4, 3),
        (object(&[(0, 8), (2 * PAGE_BYTES, 16)]), "pages", 4, 3),
        (object(&[(0, 8), (1, 16)]), "rules", 3, 2),
    ];
    for (object, what, needed, limit) in cases {
        let limits = if what == "rules" { Limits { rules: 2, ..limits } } else { limits };
        let mut tables = Tables::new(limits);
        let full = tables.add_object(key(1), &object).unwrap_err();
        assert_eq!(full, TableFull { what, needed, limit });
        assert_eq!((tables.rows().len(), tables.index().len()), (0, 0));
        assert_eq!((tables.rules().len(), tables.object(&key(1))), (1, None));
    }
}

#[test]
fn code_that_is_far_apart_fills_the_index_in_theory_only() {
    let mut tables = Tables::new(Limits::DEFAULT);
    let full = tables.add_object(key(1), &object(&[(0, 8), (u64::MAX, 16)])).unwrap_err();
    assert_eq!(full.what, "pages");
}

#[test]
fn rule_numbers_stay_below_what_the_map_holds() {
    let mut tables = Tables::new(Limits { rules: usize::MAX, ..Limits::DEFAULT });
    let rows: Vec<_> = (0..MAX_RULES).map(|n| (u64::from(n), n as i32)).collect();
    let full = tables.add_object(key(1), &object(&rows)).unwrap_err();
    assert_eq!((full.what, full.limit), ("rules", MAX_RULES as usize));
    assert!(tables.add_object(key(1), &object(&rows[1..])).is_ok());
}

#[test]
fn only_what_changed_is_dirty() {
    let mut tables = Tables::new(Limits::DEFAULT);
    assert_eq!(tables.dirty_chunks().rules, (0, &[Rule::default()][..]));
    let rows: Vec<_> = (0..CHUNK_WORDS as u64).map(|n| (n, 8)).collect();
    tables.add_object(key(1), &object(&rows)).unwrap();
    let chunks = |chunks: &[(u32, &[u32; CHUNK_WORDS])]| {
        chunks.iter().map(|(chunk, _)| *chunk).collect::<Vec<_>>()
    };
    let dirty = tables.dirty_chunks();
    assert_eq!((chunks(&dirty.rows), chunks(&dirty.index)), (vec![0, 1], vec![0]));
    assert_eq!(dirty.rules.1.len(), 2);
    let words: Vec<_> = dirty.rows.iter().flat_map(|(_, words)| words.iter().copied()).collect();
    assert_eq!(words[..tables.rows().len()], *tables.rows());
    tables.mark_uploaded();
    let dirty = tables.dirty_chunks();
    assert!(dirty.rows.is_empty() && dirty.index.is_empty() && dirty.rules == (2, &[][..]));
    tables.add_object(key(2), &object(&[(0, 24)])).unwrap();
    let dirty = tables.dirty_chunks();
    assert_eq!((chunks(&dirty.rows), chunks(&dirty.index)), (vec![1], vec![0]));
    assert_eq!(dirty.rules, (2, &[rule(CfaRule::Sp, 24)][..]));
}
