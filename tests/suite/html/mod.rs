//! The page in a real browser. Pictures of it are kept in target/artifacts.

mod budget;
mod look;
mod page;
mod scenario;

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
};

use memtrace::{render::html, report::Report};
use memtrace_tests::browser::Browser;

/// Where what people may want to look at goes.
fn artifacts() -> PathBuf {
    let target = std::env::current_exe().unwrap();
    let directory = target.ancestors().nth(3).unwrap().join("artifacts");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Writes a report's page.
fn write(report: &Report, name: &str) -> PathBuf {
    let path = artifacts().join(name);
    html::write(report, &mut BufWriter::new(File::create(&path).unwrap())).unwrap();
    path
}

/// A browser on a desk.
fn empty() -> Browser {
    let mut browser = Browser::start();
    browser.resize(1280, 900, false);
    browser.prefer_dark(false);
    browser
}

/// Shows a page that was written.
fn show(browser: &mut Browser, file: &Path) {
    browser.open(file);
    browser.wait_for("!!document.documentElement?.dataset.ready");
}

/// A browser that shows a report's page.
fn opened(report: &Report, name: &str) -> Browser {
    let mut browser = empty();
    show(&mut browser, &write(report, name));
    browser
}

/// The page did nothing that it should not: no error, no warning, no request.
fn assert_calm(mut browser: Browser) {
    assert_eq!(browser.complaints(), [""; 0]);
}

/// What an element says.
fn text(browser: &mut Browser, selector: &str) -> String {
    browser.text(&format!("document.querySelector({selector:?}).textContent"))
}
