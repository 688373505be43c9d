//! `cargo xtask test`: every test by one command. Everything is built and, where possible, run as
//! the caller; only the live test binary runs as root.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::{
    artifacts::{self, Built},
    needs::Purpose,
    privilege::Privilege,
    programs, second_chance, setup,
    shell::{cargo, run, say, step},
    vm,
};

/// Options of `cargo xtask test`.
#[derive(Args)]
pub struct Options {
    /// Only this kind; can be given more than once [default: unit, suite and live]
    #[arg(long, value_name = "KIND")]
    only: Vec<Kind>,
    /// Also run the smoke tests on these kernels in a virtual machine [default: 6.1 6.12]
    #[arg(long, value_name = "KERNEL", num_args = 0..)]
    vm: Option<Vec<String>>,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// A kind of test, by what it takes to run it.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Kind {
    /// Tests beside the code and in the documentation
    Unit,
    /// The command line, golden files, layering: no privileges
    Suite,
    /// Real eBPF on real processes: root
    Live,
    /// The live smoke tests on other kernels: qemu
    Vm,
}

/// The variable that turns live tests off where eBPF is out of reach.
const SKIP_LIVE: &str = "MEMTRACE_SKIP_LIVE";

/// What `--vm` means on its own: the kernels of Debian 12 and of its backports, both preemptible.
const KERNELS: [&str; 2] = ["6.1", "6.12"];

/// Runs the task.
pub fn main(options: &Options) -> Result<()> {
    let kinds = options.kinds();
    setup::install(&purposes(&kinds))?;
    for kind in &kinds {
        match kind {
            Kind::Unit => step("unit tests", || unit(options))?,
            Kind::Suite => step("suite", || suite(options))?,
            Kind::Live => step("live tests", || live(options))?,
            Kind::Vm => step("other kernels", || other_kernels(options))?,
        }
    }
    Ok(())
}

impl Options {
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = self.only.clone();
        if kinds.is_empty() {
            kinds.extend([Kind::Unit, Kind::Suite, Kind::Live]);
        }
        if self.vm.is_some() && !kinds.contains(&Kind::Vm) {
            kinds.push(Kind::Vm);
        }
        kinds
    }

    fn kernels(&self) -> Vec<&str> {
        match &self.vm {
            Some(kernels) if !kernels.is_empty() => kernels.iter().map(String::as_str).collect(),
            _ => KERNELS.to_vec(),
        }
    }

    fn filter(&self) -> Vec<&str> {
        self.filter.as_deref().into_iter().collect()
    }
}

fn purposes(kinds: &[Kind]) -> Vec<Purpose> {
    let mut purposes = vec![Purpose::Test];
    purposes.extend(kinds.contains(&Kind::Vm).then_some(Purpose::Vm));
    purposes
}

fn unit(options: &Options) -> Result<()> {
    let filter = options.filter();
    run(cargo().args(["test", "--workspace", "--lib", "--bins"]).args(&filter))?;
    run(cargo().args(["test", "--workspace", "--doc"]).args(&filter))
}

fn suite(options: &Options) -> Result<()> {
    let Built { memtrace, .. } = artifacts::build()?;
    run(cargo()
        .args(["test", "--workspace", "--test", "suite"])
        .args(options.filter())
        .env("MEMTRACE_BIN", memtrace))
}

fn live(options: &Options) -> Result<()> {
    if std::env::var_os(SKIP_LIVE).is_some_and(|it| it == "1") {
        say(format_args!("LIVE TESTS SKIPPED, because {SKIP_LIVE}=1: memtrace was NOT tried here"));
        return Ok(());
    }
    let built = artifacts::build()?;
    let programs = programs::compile()?;
    let env = [
        ("MEMTRACE_BIN", text(&built.memtrace)?),
        ("MEMTRACE_TEST_PROGRAMS", text(&programs)?),
        ("RUST_BACKTRACE", "1"),
    ];
    let what = "The live tests load eBPF programs, which needs root";
    let privilege = Privilege::now();
    second_chance::run(&options.filter(), |arguments| {
        Ok(privilege.command(what, &env, &built.live, arguments)?)
    })
}

fn other_kernels(options: &Options) -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "the kernels for --vm are Debian's for x86-64");
    let built = artifacts::build()?;
    let programs = programs::compile()?;
    let failed = vm::test(&options.kernels(), &built, &programs, options.filter.as_deref())?;
    if !failed.is_empty() {
        bail!("failed on kernel {}", failed.join(", "));
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| anyhow::anyhow!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Options {
        Cli::parse_from([&["test"], arguments].concat()).options
    }

    #[test]
    fn by_default_everything_runs_that_needs_no_virtual_machine() {
        assert_eq!(parse(&[]).kinds(), [Kind::Unit, Kind::Suite, Kind::Live]);
    }

    #[test]
    fn vm_adds_the_kernels_it_is_given_or_the_usual_ones() {
        let named = parse(&["--vm", "6.6", "6.12"]);
        assert_eq!(named.kinds(), [Kind::Unit, Kind::Suite, Kind::Live, Kind::Vm]);
        assert_eq!(named.kernels(), ["6.6", "6.12"]);
        assert_eq!(parse(&["--vm"]).kernels(), KERNELS);
    }

    #[test]
    fn only_leaves_the_others_out() {
        assert_eq!(parse(&["--only", "suite"]).kinds(), [Kind::Suite]);
        let vm = parse(&["--only", "vm", "--vm", "6.1"]);
        assert_eq!((vm.kinds(), vm.kernels()), (vec![Kind::Vm], vec!["6.1"]));
    }

    #[test]
    fn qemu_is_asked_for_only_when_a_virtual_machine_is() {
        assert_eq!(purposes(&[Kind::Unit]), [Purpose::Test]);
        assert_eq!(purposes(&[Kind::Vm]), [Purpose::Test, Purpose::Vm]);
    }
}
