//! The live smoke tests on another kernel: Debian's, under qemu, with everything in an initramfs.

use std::{
    panic::resume_unwind,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    artifacts::Built,
    shell::{say, work_dir},
};

mod console;
mod cpio;
mod initramfs;
mod kernel;
mod machine;

use kernel::Kernel;
use machine::Machine;

/// The subset of the live tests that needs neither compiler nor Python.
const SMOKE: &str = "smoke";

/// How long a machine may run. Software emulation is 10 to 30 times slower than the processor.
const LIMIT: Duration = Duration::from_secs(600);

/// Boots the newest Debian kernel of each of these series, such as `6.1`, and runs the smoke tests there,
/// on all of them at the same time: each machine keeps one CPU busy. Which failed.
pub fn test<'s>(
    all: &[&'s str],
    built: &Built,
    programs: &Path,
    filter: Option<&str>,
) -> Result<Vec<&'s str>> {
    // The same for all of them, which boot at the same time.
    let initrd = work_dir("vm").join("initramfs.cpio");
    initramfs::write(&initrd, built, programs, filter.unwrap_or(SMOKE))?;
    // One after the other, as apt wants it.
    let kernels: Vec<_> = all.iter().map(|series| (*series, kernel::get(series))).collect();
    Ok(thread::scope(|scope| {
        let test_one = |(series, kernel): (&'s str, Result<Kernel>)| {
            let tested = kernel.and_then(|it| test_on(&it, series, &initrd));
            let failed = tested.inspect_err(|error| {
                say(format_args!("kernel {series}: FAILED: {error:#}"));
            });
            failed.is_err().then_some(series)
        };
        let running: Vec<_> =
            kernels.into_iter().map(|it| scope.spawn(move || test_one(it))).collect();
        let ended = running.into_iter().map(|it| it.join().unwrap_or_else(|it| resume_unwind(it)));
        ended.flatten().collect()
    }))
}

/// An error, after showing the console, if a test fails, none ran, or the kernel complained.
fn test_on(kernel: &Kernel, series: &str, initrd: &Path) -> Result<()> {
    let dir = work_dir("vm").join(series);
    say(format_args!("kernel {}: booting", kernel.release));
    let start = Instant::now();
    let machine = Machine {
        image: &kernel.image,
        initrd,
        swap: &dir.join("swap"),
        console: &dir.join("console.log"),
    };
    let log = machine::run(&machine, LIMIT)?;
    match console::verdict(&log) {
        Ok(outcome) => {
            let seconds = start.elapsed().as_secs_f64();
            say(format_args!("kernel {}: {outcome}, {seconds:.1} s in all", kernel.release));
            Ok(())
        }
        Err(error) => {
            eprintln!("{log}");
            bail!(error.context(format!("kernel {} (its console is above)", kernel.release)))
        }
    }
}

/// A file's content, with its name where it cannot be read.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
