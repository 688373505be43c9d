//! `cargo xtask setup`: installs what is missing, after saying what and why.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{
    apt, bpf_toolchain, foreign,
    needs::{self, Purpose},
    shell::say,
};

/// Options of `cargo xtask setup`.
#[derive(Args)]
pub struct Options {
    /// Only what this needs; can be given more than once [default: everything but peers]
    #[arg(long = "for", value_name = "PURPOSE")]
    purposes: Vec<Purpose>,
}

/// Runs the task.
pub fn main(options: &Options) -> Result<()> {
    let own: Vec<_> =
        Purpose::value_variants().iter().copied().filter(|it| *it != Purpose::Peers).collect();
    let purposes = if options.purposes.is_empty() { &own } else { &options.purposes };
    install(purposes)?;
    say("everything needed is here");
    Ok(())
}

/// Makes sure that `purposes` can be served. Says nothing when nothing is missing.
pub fn install(purposes: &[Purpose]) -> Result<()> {
    install_packages(purposes)?;
    if purposes.contains(&Purpose::Build) {
        bpf_toolchain::install_linker()?;
    }
    if purposes.contains(&Purpose::Test) {
        foreign::install();
    }
    if purposes.contains(&Purpose::Vm) {
        foreign::qemu()?;
    }
    if purposes.contains(&Purpose::Peers) {
        // Who is compared with others does without one of them, and says so.
        if let Err(error) = foreign::memleak() {
            say(format_args!("NOT HERE: memleak of libbpf-tools: {error:#}"));
        }
    }
    Ok(())
}

fn install_packages(purposes: &[Purpose]) -> Result<()> {
    let missing = needs::missing(purposes);
    for need in &missing {
        say(format_args!(
            "missing: {} ({}): installing {}",
            need.what,
            need.why,
            need.packages.join(", ")
        ));
    }
    let packages: Vec<_> = missing.iter().flat_map(|need| need.packages).copied().collect();
    if packages.is_empty() { Ok(()) } else { apt::install(&packages) }
}
