//! Which pages of a process are in memory, by `/proc/PID/pagemap`: without touching them.
//!
//! Linux 6.7 tells whole runs in one call (`PAGEMAP_SCAN`), and which of them are pages of zeros.
//! Older kernels give a word for each page (Documentation/admin-guide/mm/pagemap.rst), in which the
//! page of zeros looks like any other.

mod entries;
mod scan;

use std::{
    fs::File,
    os::fd::AsFd as _,
    sync::atomic::{AtomicBool, Ordering},
};

use super::procfs::{ProcError, ProcFs};
use crate::model::memory::{PageRun, Residency};

/// The pages of the program that a process runs now: after an exec there is nothing more to tell.
#[derive(Debug)]
pub struct Pagemap {
    file: File,
    has_scan: AtomicBool,
}

impl Pagemap {
    /// Opens a process's page map.
    pub fn open(proc: &ProcFs, pid: u32) -> Result<Self, ProcError> {
        let file = proc.open_pagemap(pid)?;
        let has_scan = AtomicBool::new(scan::is_available(file.as_fd()));
        Ok(Self { file, has_scan })
    }

    /// Whether pages of zeros can be told from pages that are counted in RSS.
    pub fn tells_zero_pages(&self) -> bool {
        self.has_scan.load(Ordering::Relaxed)
    }

    /// Reads an entry for each page from now on, as on kernels before 6.7.
    pub fn without_scan(self) -> Self {
        Self { has_scan: AtomicBool::new(false), ..self }
    }
}

impl Residency for Pagemap {
    fn runs(&self, start: u64, end: u64) -> Option<Vec<PageRun>> {
        if self.tells_zero_pages() {
            return scan::runs(self.file.as_fd(), start, end);
        }
        entries::runs(&self.file, start, end)
    }
}

#[cfg(test)]
mod tests;
