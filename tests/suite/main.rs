//! Tests that need no privileges and no kernel support: the command line, and rules that the
//! sources keep.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it fails")]

mod bpf_object;
mod capture_format;
mod cli;
mod deploy;
mod diff;
mod exports;
mod html;
mod layering;
mod provisions;
mod push;
mod report;
mod source_paths;
mod whatif;
