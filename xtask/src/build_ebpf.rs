//! `cargo xtask build-ebpf`: the BPF object from its sources, with a sidecar that says so.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use xtask::bpf_object::{self, Sidecar, sha256, source_sha256};

use crate::{
    bpf_toolchain::{self, BpfRustc},
    shell::{cargo, root, run, say, work_dir},
    strip::{programs, strip_debug},
};

/// What shapes the code. `v3` brings 32-bit arithmetic and is understood by every kernel that has
/// a ring buffer.
const FLAGS: [&str; 3] = ["-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v3"];

const TARGET: &str = "bpfel-unknown-none";

/// Options of `cargo xtask build-ebpf`.
#[derive(Args)]
pub struct Options {
    /// Build nothing: fail if the committed object was not built from these sources
    #[arg(long)]
    check: bool,
    /// Where to write the object; its sidecar goes beside it
    #[arg(long, value_name = "FILE", default_value = bpf_object::OBJECT, conflicts_with = "check")]
    out: PathBuf,
}

/// Runs the task.
pub fn main(options: &Options) -> Result<()> {
    let object = root().join(&options.out);
    if options.check {
        let sidecar = bpf_object::check(&root(), &object)?;
        say(format_args!("{} belongs to these sources ({})", object.display(), sidecar.rustc));
        return Ok(());
    }
    build(&object)
}

fn build(out: &Path) -> Result<()> {
    let rustc = BpfRustc::find()?;
    let bpf_linker = bpf_toolchain::linker_version()?;
    say(format_args!("{}, LLVM {}, {bpf_linker}", rustc.version, rustc.llvm));
    let linked = compile(&rustc)?;
    let linked = fs::read(&linked).with_context(|| format!("no {}", linked.display()))?;
    let object = strip_debug(&linked)?;
    let sidecar = Sidecar {
        // After the build, which may have brought Cargo.lock up to date.
        source_sha256: source_sha256(&root())?,
        object_sha256: sha256(&object),
        object_bytes: object.len() as u64,
        rustc: rustc.version,
        llvm: rustc.llvm,
        bpf_linker,
        flags: FLAGS.map(str::to_owned).to_vec(),
    };
    write(out, &object, &sidecar)?;
    describe(out, linked.len(), &object)?;
    let committed = root().join(bpf_object::OBJECT);
    if out == committed { Ok(()) } else { compare(&sidecar, &committed) }
}

/// Says how the object just built relates to the committed one. An error where that one cannot
/// have come from the sources that its sidecar names.
fn compare(built: &Sidecar, committed: &Path) -> Result<()> {
    let path = committed.display();
    let committed = Sidecar::read(committed)?;
    ensure!(
        !built.contradicts(&committed),
        "the same sources and toolchain give another object than {path}: it was not built from them"
    );
    if built.object_sha256 == committed.object_sha256 {
        say("byte for byte the committed object");
    } else if built.source_sha256 == committed.source_sha256 {
        say(format_args!("the committed object has another toolchain: {}", committed.rustc));
    } else {
        say("the committed object is of other sources");
    }
    Ok(())
}

fn compile(rustc: &BpfRustc) -> Result<PathBuf> {
    let target_dir = work_dir("bpf");
    run(cargo()
        .current_dir(root().join("memtrace-ebpf"))
        .args(["build", "--release", "-Zbuild-std=core", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTC", &rustc.rustc)
        // -Zbuild-std is a nightly flag; the compiler's own source is what it is meant for.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("LD_LIBRARY_PATH", rustc.llvm_dir()?)
        // Not a flag: cargo hashes flags, and so local paths in them, into symbol names.
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", bpf_toolchain::linker())
        .env("CARGO_ENCODED_RUSTFLAGS", flags(rustc)?.join("\x1f"))
        .env_remove("RUSTFLAGS")
        .env("RUSTC_WRAPPER", root().join("xtask/src/rustc-wrapper.sh"))
        // clippy around the host build has no business here.
        .env_remove("RUSTC_WORKSPACE_WRAPPER"))?;
    Ok(target_dir.join(TARGET).join("release/memtrace-ebpf"))
}

/// [`FLAGS`] and what keeps local paths out of the object: the same sources and
/// toolchain give the same bytes in every checkout.
fn flags(rustc: &BpfRustc) -> Result<Vec<String>> {
    let cargo_home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| home + "/.cargo"))
        .context("neither CARGO_HOME nor HOME is set")?;
    let library = rustc.sysroot.join("lib/rustlib/src/rust");
    let mut flags = FLAGS.map(str::to_owned).to_vec();
    // Debian's library source is a symbolic link, and rustc sees both names.
    let real_library = fs::canonicalize(&library)?;
    for (from, to) in [
        (root(), "memtrace"),
        (cargo_home.into(), "cargo"),
        (library, "rust"),
        (real_library, "rust"),
    ] {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    Ok(flags)
}

fn write(out: &Path, object: &[u8], sidecar: &Sidecar) -> Result<()> {
    if let Some(dir) = out.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(out, object).with_context(|| format!("cannot write {}", out.display()))?;
    sidecar.write(out)
}

fn describe(out: &Path, linked_bytes: usize, object: &[u8]) -> Result<()> {
    for (section, instructions) in programs(object)? {
        say(format_args!("{section}: {instructions} instructions"));
    }
    let bytes = object.len();
    say(format_args!("{}: {bytes} bytes ({linked_bytes} with DWARF)", out.display()));
    say(format_args!("sha256 {}", sha256(object)));
    Ok(())
}
