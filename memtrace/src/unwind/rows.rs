//! Puts rows of ascending addresses together: rules once, equal neighbours once.

use std::collections::HashMap;

use memtrace_common::unwind::table::{MAX_RULES, Rule};

use super::{
    compile::{CompileError, ObjectRow},
    rule::UNKNOWN,
};

/// The most rows of one object; a library of 108 MB has 65,000.
const MAX_ROWS: usize = 1 << 22;

pub(super) struct RowBuilder {
    base: u64,
    rows: Vec<ObjectRow>,
    rules: Vec<Rule>,
    numbers: HashMap<Rule, u32>,
}

impl RowBuilder {
    /// Before the first row, nothing is known. No address is below `base`, or further above it than an
    /// offset has room for. There is room for so many rows at once: while they are moved to a larger place,
    /// they are there twice.
    pub(super) fn new(base: u64, expected: usize) -> Self {
        let rows = Vec::with_capacity(expected.min(MAX_ROWS));
        Self { base, rows, rules: vec![UNKNOWN], numbers: HashMap::from([(UNKNOWN, 0)]) }
    }

    /// From `address` on, which must not descend, `rule` holds.
    ///
    /// Errors: [`CompileError::TooManyRows`], [`CompileError::TooManyRules`].
    pub(super) fn push(&mut self, address: u64, rule: Rule) -> Result<(), CompileError> {
        let rule = self.number(rule)?;
        if self.rows.last().map_or(0, |last| last.rule) == rule {
            return Ok(());
        }
        if self.rows.len() == MAX_ROWS {
            return Err(CompileError::TooManyRows);
        }
        self.rows.push(ObjectRow { offset: address.wrapping_sub(self.base) as u32, rule });
        Ok(())
    }

    /// Rows and rules; rule 0 is the unknown one.
    pub(super) fn finish(mut self) -> (Vec<ObjectRow>, Vec<Rule>) {
        self.rows.shrink_to_fit();
        (self.rows, self.rules)
    }

    fn number(&mut self, rule: Rule) -> Result<u32, CompileError> {
        if let Some(&number) = self.numbers.get(&rule) {
            return Ok(number);
        }
        let number = self.rules.len() as u32;
        if number == MAX_RULES {
            return Err(CompileError::TooManyRules);
        }
        self.rules.push(rule);
        self.numbers.insert(rule, number);
        Ok(number)
    }
}
