//! The committed BPF object and its sidecar: whether they belong to these sources.
//!
//! memtrace embeds `memtrace/bpf/memtrace.bpf.o`, built earlier by `cargo xtask build-ebpf`, so
//! that building memtrace needs no BPF toolchain. The sidecar beside it records what the object
//! was built from; checking it needs no toolchain either.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Where the object lives, from the root of the repository.
pub const OBJECT: &str = "memtrace/bpf/memtrace.bpf.o";

/// What decides the object's content, from the root of the repository: files and directories.
const SOURCES: [&str; 5] = [
    "memtrace-ebpf/Cargo.toml",
    "memtrace-ebpf/Cargo.lock",
    "memtrace-ebpf/src",
    "memtrace-common/Cargo.toml",
    "memtrace-common/src",
];

/// How an object was made; stored as JSON beside it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Sidecar {
    /// [`source_sha256`] of the sources that it was built from.
    pub source_sha256: String,
    /// SHA-256 of the object, in hex.
    pub object_sha256: String,
    /// Size of the object.
    pub object_bytes: u64,
    /// The first line of `rustc --version`.
    pub rustc: String,
    /// The LLVM version that both rustc and bpf-linker used.
    pub llvm: String,
    /// The first line of `bpf-linker --version`.
    pub bpf_linker: String,
    /// Flags that shape the code; those that only hide local paths are left out.
    pub flags: Vec<String>,
}

impl Sidecar {
    /// Where the sidecar of `object` is: the same name, ending in `.json`.
    pub fn path_of(object: &Path) -> PathBuf {
        object.with_extension("json")
    }

    /// Reads the sidecar of `object`. Errors where it is missing or not of this form.
    pub fn read(object: &Path) -> Result<Self> {
        let path = Self::path_of(object);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("cannot parse {}", path.display()))
    }

    /// Whether one of the two lies: the same sources and toolchain gave different objects.
    pub fn contradicts(&self, other: &Self) -> bool {
        self.comparable(other) && self.object_sha256 != other.object_sha256
    }

    /// Whether the two must be byte for byte the same: the build is reproducible.
    fn comparable(&self, other: &Self) -> bool {
        let inputs = |it: &Self| {
            let Self { source_sha256, rustc, llvm, bpf_linker, flags, .. } = it.clone();
            (source_sha256, rustc, llvm, bpf_linker, flags)
        };
        inputs(self) == inputs(other)
    }

    /// Writes itself beside `object`.
    pub fn write(&self, object: &Path) -> Result<()> {
        let path = Self::path_of(object);
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Fails unless `object` is the one that its sidecar describes, and the sidecar describes the
/// sources under `root`.
pub fn check(root: &Path, object: &Path) -> Result<Sidecar> {
    let sidecar = Sidecar::read(object)?;
    let bytes = fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
    ensure!(
        sha256(&bytes) == sidecar.object_sha256,
        "{} is not the object that its sidecar describes: run `cargo xtask build-ebpf`",
        object.display()
    );
    ensure!(
        source_sha256(root)? == sidecar.source_sha256,
        "the sources of the BPF programs changed since {} was built: run `cargo xtask build-ebpf`",
        object.display()
    );
    Ok(sidecar)
}

/// SHA-256 over the path, length and content of every source of the BPF object, sorted by path.
/// The length keeps "ab" + "c" and "a" + "bc" apart.
pub fn source_sha256(root: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    for path in source_files(root)? {
        let content = fs::read(root.join(&path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.to_string_lossy();
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update((content.len() as u64).to_le_bytes());
        hasher.update(&content);
    }
    Ok(hex(&hasher.finalize()))
}

/// SHA-256 of `bytes` in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Every source file, relative to `root`, sorted.
fn source_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(root, Path::new(source), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn collect(root: &Path, path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let absolute = root.join(path);
    if !absolute.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries =
        fs::read_dir(&absolute).with_context(|| format!("cannot list {}", absolute.display()))?;
    for entry in entries {
        let name = entry?.file_name();
        // Editors leave .swp and ~ files beside the sources.
        let child = path.join(name);
        if root.join(&child).is_dir() || child.extension().is_some_and(|it| it == "rs") {
            collect(root, &child, files)?;
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with the least that [`source_sha256`] reads, and an object that agrees.
    fn repository() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for (path, text) in [
            ("memtrace-ebpf/Cargo.toml", "[package]"),
            ("memtrace-ebpf/Cargo.lock", "version = 4"),
            ("memtrace-ebpf/src/main.rs", "fn a() {}"),
            ("memtrace-common/Cargo.toml", "[package]"),
            ("memtrace-common/src/lib.rs", "pub mod deep;"),
            ("memtrace-common/src/deep/mod.rs", "pub fn b() {}"),
            (OBJECT, "object"),
        ] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        }
        let object = root.join(OBJECT);
        sidecar(root).write(&object).unwrap();
        (dir, object)
    }

    fn sidecar(root: &Path) -> Sidecar {
        Sidecar {
            source_sha256: source_sha256(root).unwrap(),
            object_sha256: sha256(b"object"),
            object_bytes: 6,
            rustc: "rustc 1.96.0".into(),
            llvm: "22.1.8".into(),
            bpf_linker: "bpf-linker 0.10.3".into(),
            flags: vec!["-Cdebuginfo=2".into()],
        }
    }

    #[test]
    fn an_untouched_object_agrees_with_its_sources() {
        let (dir, object) = repository();
        assert_eq!(check(dir.path(), &object).unwrap(), sidecar(dir.path()));
    }

    #[test]
    fn a_change_in_any_source_is_noticed() {
        for source in [
            "memtrace-ebpf/Cargo.toml",
            "memtrace-ebpf/Cargo.lock",
            "memtrace-ebpf/src/main.rs",
            "memtrace-common/Cargo.toml",
            "memtrace-common/src/deep/mod.rs",
        ] {
            let (dir, object) = repository();
            fs::write(dir.path().join(source), "changed").unwrap();
            let error = check(dir.path(), &object).unwrap_err().to_string();
            assert!(error.contains("sources"), "{source}: {error}");
        }
    }

    #[test]
    fn a_new_or_renamed_source_is_noticed() {
        let (dir, object) = repository();
        let src = dir.path().join("memtrace-ebpf/src");
        fs::write(src.join("new.rs"), "").unwrap();
        assert!(check(dir.path(), &object).is_err());
        fs::remove_file(src.join("new.rs")).unwrap();
        fs::rename(src.join("main.rs"), src.join("other.rs")).unwrap();
        assert!(check(dir.path(), &object).is_err());
    }

    #[test]
    fn an_editors_leftovers_are_no_source() {
        let (dir, object) = repository();
        fs::write(dir.path().join("memtrace-ebpf/src/.main.rs.swp"), "x").unwrap();
        check(dir.path(), &object).unwrap();
    }

    #[test]
    fn an_exchanged_object_is_noticed() {
        let (dir, object) = repository();
        fs::write(&object, "other").unwrap();
        let error = check(dir.path(), &object).unwrap_err().to_string();
        assert!(error.contains("is not the object"), "{error}");
    }

    #[test]
    fn only_the_same_sources_and_toolchain_must_give_the_same_object() {
        let (dir, _) = repository();
        let committed = sidecar(dir.path());
        let forged = Sidecar { object_sha256: sha256(b"forged"), ..committed.clone() };
        assert!(committed.contradicts(&forged));
        assert!(!committed.contradicts(&committed));
        let newer = Sidecar { rustc: "rustc 1.97.0".into(), ..forged };
        assert!(!committed.contradicts(&newer));
    }

    #[test]
    fn a_missing_sidecar_is_an_error_that_names_it() {
        let (dir, object) = repository();
        fs::remove_file(Sidecar::path_of(&object)).unwrap();
        let error = check(dir.path(), &object).unwrap_err().to_string();
        assert!(error.contains("memtrace.bpf.json"), "{error}");
    }
}
