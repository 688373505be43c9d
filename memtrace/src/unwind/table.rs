//! The tables of all objects of all processes, as the walker wants them.

use std::collections::HashMap;

use memtrace_common::unwind::table::{MAX_RULES, PAGE_BITS, PAGE_BYTES, Row, Rule};
use thiserror::Error;

use super::{
    compile::{ObjectRow, ObjectRows},
    rule::UNKNOWN,
    words::Words,
};
use crate::{elf::CodeSegment, model::mapping::FileId};

pub use super::words::Chunk;

/// What makes two objects the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKey {
    /// The GNU build ID: also the same file in different containers.
    BuildId(Box<[u8]>),
    /// A file without build ID.
    File(FileId),
    /// The kernel's own object, which is the same for all 64-bit processes.
    Vdso,
}

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Words for rows.
    pub rows: usize,
    /// Words for the index.
    pub pages: usize,
    /// Rules, at most [`MAX_RULES`].
    pub rules: usize,
}

impl Limits {
    /// 6 MB: room for 500 MB of code. A numpy process (42 MB of code) takes 0.45 MB.
    pub const DEFAULT: Self = Self { rows: 1 << 20, pages: 1 << 19, rules: MAX_RULES as usize };
}

/// Where an object's tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// Its first index entry.
    pub first_page: u32,
    /// How many pages it has; 0 = it has no rows.
    pub pages: u32,
    /// The address, as the file states addresses, where its first page begins.
    pub base: u64,
    /// Its executable segments.
    pub segments: Vec<CodeSegment>,
}

/// There is no room for an object; the tables are as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the unwind tables have room for {limit} {what}, {needed} are needed")]
pub struct TableFull {
    /// `rows`, `pages` or `rules`.
    pub what: &'static str,
    /// What would be in use with the object.
    pub needed: usize,
    /// What there is.
    pub limit: usize,
}

/// The tables. They only grow: what has been uploaded stays valid.
#[derive(Debug)]
pub struct Tables {
    limits: Limits,
    rows: Words,
    index: Words,
    rules: Vec<Rule>,
    rule_numbers: HashMap<Rule, u32>,
    uploaded_rules: usize,
    objects: HashMap<ObjectKey, ObjectRef>,
}

/// What has to be uploaded before mappings may refer to it.
pub struct Dirty<'a> {
    /// Chunks of rows.
    pub rows: Vec<Chunk<'a>>,
    /// Chunks of the index.
    pub index: Vec<Chunk<'a>>,
    /// New rules and the number of the first.
    pub rules: (u32, &'a [Rule]),
}

impl Tables {
    /// Empty tables. Rule 0 is the unknown one.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: Limits { rules: limits.rules.min(MAX_RULES as usize), ..limits },
            rows: Words::default(),
            index: Words::default(),
            rules: vec![UNKNOWN],
            rule_numbers: HashMap::from([(UNKNOWN, 0)]),
            uploaded_rules: 0,
            objects: HashMap::new(),
        }
    }

    /// Objects that are added from here on have to fit into this.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = Limits { rules: limits.rules.min(MAX_RULES as usize), ..limits };
    }

    /// The tables of an object that has been added.
    pub fn object(&self, key: &ObjectKey) -> Option<&ObjectRef> {
        self.objects.get(key)
    }

    /// Adds an object, or finds it when it has been added before.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn add_object(
        &mut self,
        key: ObjectKey,
        object: &ObjectRows,
    ) -> Result<&ObjectRef, TableFull> {
        if !self.objects.contains_key(&key) {
            let added = self.append(object)?;
            self.objects.insert(key.clone(), added);
        }
        Ok(&self.objects[&key])
    }

    /// What has changed since [`Self::mark_uploaded`].
    pub fn dirty_chunks(&self) -> Dirty<'_> {
        Dirty {
            rows: self.rows.dirty_chunks().collect(),
            index: self.index.dirty_chunks().collect(),
            rules: (self.uploaded_rules as u32, &self.rules[self.uploaded_rules..]),
        }
    }

    /// All that [`Self::dirty_chunks`] told has arrived in the maps.
    pub fn mark_uploaded(&mut self) {
        self.rows.mark_uploaded();
        self.index.mark_uploaded();
        self.uploaded_rules = self.rules.len();
    }

    /// The maps are others, in which nothing is, and of which nobody said how large they are.
    pub fn forget_uploaded(&mut self, limits: Limits) {
        self.rows.forget_uploaded();
        self.index.forget_uploaded();
        self.uploaded_rules = 0;
        self.limit(limits);
    }

    /// All rows.
    pub fn rows(&self) -> &[u32] {
        self.rows.as_slice()
    }

    /// All index entries.
    pub fn index(&self) -> &[u32] {
        self.index.as_slice()
    }

    /// All rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Memory that the rows, the index and the rules take.
    pub fn size_bytes(&self) -> usize {
        (self.rows.len() + self.index.len()) * size_of::<u32>() + size_of_val(&*self.rules)
    }

    /// The rule for an address of an object, as the file states addresses. For a caller that is
    /// the return address less one. Only right for addresses in calls.
    pub fn lookup(&self, object: &ObjectRef, address: u64) -> Rule {
        let at = address.wrapping_sub(object.base);
        let page = at >> PAGE_BITS;
        if page >= u64::from(object.pages) {
            return UNKNOWN;
        }
        let entry = object.first_page + page as u32;
        let (first, end) = (self.index.get(entry), self.index.get(entry + 1));
        let after = self.first_behind(first, end, Row::new(at, 0).page_offset());
        let rule = Row(self.rows.get(after - 1)).rule();
        self.rules.get(rule as usize).copied().unwrap_or(UNKNOWN)
    }

    /// The first of a page's rows that begins behind an offset within it.
    fn first_behind(&self, mut low: u32, mut high: u32, page_offset: u32) -> u32 {
        while low < high {
            let middle = low + (high - low) / 2;
            if Row(self.rows.get(middle)).page_offset() <= page_offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn append(&mut self, object: &ObjectRows) -> Result<ObjectRef, TableFull> {
        let segments = object.segments.clone();
        let Some((base, pages)) = extent(object) else {
            return Ok(ObjectRef { first_page: 0, pages: 0, base: 0, segments });
        };
        let first_page = self.index.len() as u32;
        self.check_room(object, pages)?;
        let numbers = self.number_rules(&object.rules);
        let at = |row: &ObjectRow| object.address(row) - base;
        let word = |row: &ObjectRow| Row::new(at(row), numbers[row.rule as usize]).0;
        self.rows.extend([Row::new(0, 0).0].into_iter());
        let first_row = self.rows.len() as u32;
        self.rows.extend(object.rows.iter().map(word));
        self.index.extend(page_starts(&object.rows, at, pages, first_row));
        Ok(ObjectRef { first_page, pages: pages as u32, base, segments })
    }

    fn check_room(&self, object: &ObjectRows, pages: u64) -> Result<(), TableFull> {
        let new_rules = object.rules.iter().filter(|rule| !self.rule_numbers.contains_key(rule));
        let pages = self.index.len().saturating_add(pages as usize).saturating_add(1);
        check("rows", self.rows.len() + object.rows.len() + 1, self.limits.rows)?;
        check("pages", pages, self.limits.pages)?;
        check("rules", self.rules.len() + new_rules.count(), self.limits.rules)
    }

    /// The number of each of an object's rules in the shared array.
    fn number_rules(&mut self, rules: &[Rule]) -> Vec<u32> {
        rules.iter().map(|rule| self.number(*rule)).collect()
    }

    fn number(&mut self, rule: Rule) -> u32 {
        *self.rule_numbers.entry(rule).or_insert_with(|| {
            self.rules.push(rule);
            self.rules.len() as u32 - 1
        })
    }
}

fn check(what: &'static str, needed: usize, limit: usize) -> Result<(), TableFull> {
    if needed > limit { Err(TableFull { what, needed, limit }) } else { Ok(()) }
}

/// Where the first page begins, and how many pages there are up to the last row.
fn extent(object: &ObjectRows) -> Option<(u64, u64)> {
    let base = object.address(object.rows.first()?) & !(PAGE_BYTES - 1);
    Some((base, ((object.address(object.rows.last()?) - base) >> PAGE_BITS) + 1))
}

/// The number of each page's first row, and of the one behind the last.
fn page_starts(
    rows: &[ObjectRow],
    at: impl Fn(&ObjectRow) -> u64,
    pages: u64,
    first_row: u32,
) -> impl ExactSizeIterator<Item = u32> {
    let mut row = 0;
    let start_of = move |page: u32| {
        while row < rows.len() && at(&rows[row]) >> PAGE_BITS < u64::from(page) {
            row += 1;
        }
        first_row + row as u32
    };
    (0..pages as u32 + 1).map(start_of)
}
