//! From the unwind information in ELF files to the tables that stacks are walked with.
//!
//! [`compile`](compile::compile) makes the rows of one object; [`Tables`](table::Tables) lays the
//! rows of all objects out as the walker wants them (see [`memtrace_common::unwind::table`]);
//! [`code_mappings`](mappings::code_mappings) says which part of a process's address space is
//! which part of an object.
//!
//! Pure: bytes in, words out. x86-64 only.

mod call_sites;
pub mod compile;
mod functions;
pub mod mappings;
mod output;
mod rows;
mod rule;
pub mod table;
mod words;

#[cfg(test)]
mod tests;
