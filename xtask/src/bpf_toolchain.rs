//! The compiler and the linker of the BPF object.
//!
//! Any rustc will do that has its library's source beside it (`core` must be compiled for the BPF
//! target) and that writes bitcode which bpf-linker's LLVM bindings read.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, output, run, say, work_dir};

/// The bpf-linker release in use. Its default build loads an LLVM of [`LLVM_MAJOR`] at run time.
const BPF_LINKER: &str = "0.10.3";

/// The LLVM whose bitcode bpf-linker [`BPF_LINKER`] reads and writes.
const LLVM_MAJOR: &str = "22";

/// Where Debian puts its own rustc.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A rustc that can compile for BPF.
#[derive(Debug)]
pub struct BpfRustc {
    /// The compiler itself, not rustup's proxy.
    pub rustc: PathBuf,
    /// Where its libraries and their sources are.
    pub sysroot: PathBuf,
    /// `rustc --version`.
    pub version: String,
    /// The version of its LLVM.
    pub llvm: String,
}

impl BpfRustc {
    /// The caller's rustc if it has `rust-src`, else Debian's with `rust-web-src`.
    pub fn find() -> Result<Self> {
        let own = std::env::var_os("RUSTC").unwrap_or("rustc".into());
        let mut refusals = Vec::new();
        for rustc in [PathBuf::from(own), PathBuf::from(DEBIAN_RUSTC)] {
            match Self::at(&rustc) {
                Ok(found) => return Ok(found),
                Err(error) => refusals.push(format!("{}: {error:#}", rustc.display())),
            }
        }
        bail!("no rustc can compile for BPF; `cargo xtask setup` gets one\n{}", refusals.join("\n"))
    }

    fn at(rustc: &Path) -> Result<Self> {
        let sysroot = output(Command::new(rustc).args(["--print", "sysroot"]))?;
        let sysroot = PathBuf::from(sysroot.trim());
        if !sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists() {
            bail!("it has no library source (rust-src) under {}", sysroot.display());
        }
        let about = output(Command::new(rustc).arg("-vV"))?;
        let llvm = llvm_version(&about).context("it does not say its LLVM version")?;
        if !llvm.starts_with(&format!("{LLVM_MAJOR}.")) {
            bail!(
                "its LLVM is {llvm}, and bpf-linker {BPF_LINKER} reads LLVM {LLVM_MAJOR} bitcode"
            );
        }
        let version = about.lines().next().unwrap_or_default().to_owned();
        Ok(Self { rustc: sysroot.join("bin/rustc"), version, llvm: llvm.to_owned(), sysroot })
    }

    /// A directory that holds the LLVM library which this rustc loads, and no other.
    ///
    /// bpf-linker takes the first `libLLVM*` that it meets in LD_LIBRARY_PATH, and then beside
    /// the directories of PATH: left alone it picks up whatever rustup or Debian happen to have
    /// there, such as an older LLVM than the one that wrote the bitcode.
    pub fn llvm_dir(&self) -> Result<PathBuf> {
        let libraries = output(Command::new("ldd").arg(&self.rustc))?;
        let llvm = llvm_library(&libraries)
            .with_context(|| format!("{} loads no libLLVM", self.rustc.display()))?;
        let dir = work_dir("tools").join("llvm");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        std::os::unix::fs::symlink(llvm, dir.join("libLLVM.so"))?;
        Ok(dir)
    }
}

/// Where bpf-linker is, once installed.
pub fn linker() -> PathBuf {
    work_dir("tools").join("bin/bpf-linker")
}

/// `bpf-linker --version`. Errors where it is not installed.
pub fn linker_version() -> Result<String> {
    let version = output(Command::new(linker()).arg("--version"))
        .context("no bpf-linker; `cargo xtask setup --for build` gets it")?;
    Ok(version.trim().to_owned())
}

/// Installs bpf-linker below `target/`, unless it is there.
pub fn install_linker() -> Result<()> {
    if linker_version().is_ok_and(|version| version == format!("bpf-linker {BPF_LINKER}")) {
        return Ok(());
    }
    say(format_args!("missing: bpf-linker {BPF_LINKER} (links the BPF object): building it"));
    let root = work_dir("tools");
    let install = ["install", "--quiet", "--locked", "bpf-linker", "--version", BPF_LINKER];
    run(cargo().args(install).arg("--root").arg(root))
}

fn llvm_version(about: &str) -> Option<&str> {
    about.lines().find_map(|line| line.strip_prefix("LLVM version: "))
}

/// The path of libLLVM in what ldd says.
fn llvm_library(ldd: &str) -> Option<&str> {
    let mut lines = ldd.lines().map(str::trim);
    let line = lines.find(|line| line.starts_with("libLLVM"))?;
    line.split_once("=> ")?.1.split_once(" (").map(|(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_a_rustup_compiler_is_found() {
        let ldd = "\tlinux-vdso.so.1 (0x7f)\n\
                   \tlibLLVM.so.22.1-rust-1.95.0-stable => /r/bin/../lib/libLLVM.so.22.1 (0x7f)\n";
        assert_eq!(llvm_library(ldd), Some("/r/bin/../lib/libLLVM.so.22.1"));
    }

    #[test]
    fn a_missing_llvm_library_is_not_invented() {
        assert_eq!(llvm_library("\tlibLLVM.so.22.1 => not found\n"), None);
        assert_eq!(llvm_library("\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n"), None);
    }

    #[test]
    fn the_llvm_version_is_the_one_that_rustc_states() {
        assert_eq!(llvm_version("rustc 1.96.0\nLLVM version: 22.1.8\n"), Some("22.1.8"));
        assert_eq!(llvm_version("rustc 1.96.0\n"), None);
    }

    #[test]
    fn a_compiler_without_library_source_is_refused() {
        let error = BpfRustc::at(Path::new("/no/such/rustc")).unwrap_err();
        assert!(error.to_string().contains("/no/such/rustc"), "{error}");
    }
}
