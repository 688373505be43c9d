//! Puts the BPF object where `include_bytes!` finds it: the committed one, so that plain stable
//! Rust builds memtrace, or the one that `MEMTRACE_BPF_OBJECT` names, which is how a freshly built
//! one is tested.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=MEMTRACE_BPF_OBJECT");
    let manifest_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let object = env::var_os("MEMTRACE_BPF_OBJECT")
        .map_or_else(|| manifest_dir.join("bpf/memtrace.bpf.o"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    let target = PathBuf::from(env::var("OUT_DIR")?).join("memtrace.bpf.o");
    fs::copy(&object, target).map_err(|error| format!("{}: {error}", object.display()))?;
    Ok(())
}
