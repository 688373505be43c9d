//! Takes functions and their rows, drops what is never looked up, and counts.

use gimli::FrameDescriptionEntry;
use memtrace_common::unwind::table::{CfaRule, Rule};

use super::{
    call_sites::Code,
    compile::{CompileError, CompileStats, ObjectRow},
    rows::RowBuilder,
    rule::{Bytes, UNKNOWN},
};

/// Rows, rules, and how it went.
pub(super) type Compiled = (Vec<ObjectRow>, Vec<Rule>, CompileStats);

/// Takes functions and their rows in ascending order. Code between functions is not described, like
/// that of a JIT, and is walked like it: V8's built-in functions keep frame pointers, for example.
pub(super) struct Output<'d> {
    /// The object's.
    pub(super) code: Code<'d>,
    rows: RowBuilder,
    stats: CompileStats,
    /// Where the functions so far end.
    covered: Option<u64>,
    /// Of the last row, kept or not.
    last_rule: Rule,
    /// The current function has been counted as unsupported.
    is_unsupported: bool,
}

impl<'d> Output<'d> {
    /// Nothing yet; it comes out of a section of this length.
    pub(super) fn new(code: Code<'d>, section_bytes: usize) -> Self {
        let stats = CompileStats { text_bytes: code.size_bytes(), ..CompileStats::default() };
        let base = code.bounds().map_or(0, |(start, _)| start);
        let rows = section_bytes / code.section_bytes_of_row();
        let (rows, covered, last_rule) = (RowBuilder::new(base, rows), None, UNKNOWN);
        Self { code, rows, stats, covered, last_rule, is_unsupported: false }
    }

    /// Begins a function: what of its code is not another's already (start, end).
    pub(super) fn begin(
        &mut self,
        fde: &FrameDescriptionEntry<Bytes<'d>>,
    ) -> Result<Option<(u64, u64)>, CompileError> {
        let start = fde.initial_address().max(self.covered.unwrap_or_default());
        let end = fde.initial_address().saturating_add(fde.len());
        let end = self.code.segment_end(fde.initial_address()).map_or(0, |limit| end.min(limit));
        if start >= end {
            return Ok(None);
        }
        self.stats.fdes += 1;
        self.is_unsupported = false;
        if let Some(covered) = self.covered.replace(end)
            && covered < start
            && self.code.may_run(covered, start)
        {
            self.count_row(Rule::GUESS);
            self.rows.push(covered, Rule::GUESS)?;
        }
        Ok(Some((start, end)))
    }

    /// Adds a row of the function, unless no return address can fall into it.
    pub(super) fn add(
        &mut self,
        start: u64,
        end: u64,
        rule: Result<Rule, &'static str>,
    ) -> Result<(), CompileError> {
        if start >= end {
            return Ok(());
        }
        self.count_row(rule.unwrap_or(UNKNOWN));
        if !rule.is_ok_and(is_always_kept) && !self.code.may_call(start, end) {
            return Ok(());
        }
        let rule = rule.unwrap_or_else(|reason| {
            let counted = std::mem::replace(&mut self.is_unsupported, true);
            self.stats.unsupported_fdes += u64::from(!counted);
            self.count_unsupported(reason);
            UNKNOWN
        });
        self.rows.push(start, rule)
    }

    fn count_row(&mut self, rule: Rule) {
        self.stats.rows_before += u64::from(self.last_rule != rule);
        self.last_rule = rule;
    }

    /// Counts something that cannot be used.
    pub(super) fn count_unsupported(&mut self, reason: &'static str) {
        *self.stats.unsupported.entry(reason).or_default() += 1;
    }

    /// Ends the last function.
    pub(super) fn finish(mut self) -> Result<Compiled, CompileError> {
        if let Some(covered) = self.covered {
            self.count_row(Rule::GUESS);
            self.rows.push(covered, Rule::GUESS)?;
        }
        let (rows, rules) = self.rows.finish();
        self.stats.rows = rows.len() as u64;
        self.stats.rules = rules.len() as u64;
        Ok((rows, rules, self.stats))
    }
}

/// Signal handlers return to code that has not called them, and the dynamic linker's resolver is
/// jumped to from a PLT.
fn is_always_kept(rule: Rule) -> bool {
    rule.cfa == CfaRule::Signal as u8 || rule.cfa == CfaRule::Plt as u8
}
