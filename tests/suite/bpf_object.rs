//! The committed BPF object is the one that these sources make.

use std::{fs, path::Path};

use xtask::bpf_object::{OBJECT, check};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn the_committed_object_agrees_with_its_sidecar_and_the_sources() {
    if let Err(error) = check(root(), &root().join(OBJECT)) {
        panic!("{error:#}");
    }
}

#[test]
fn the_committed_object_carries_btf_and_no_dwarf() {
    let object = fs::read(root().join(OBJECT)).unwrap();
    let holds = |name: &[u8]| object.windows(name.len()).any(|window| window == name);
    assert!(holds(b".BTF.ext\0"));
    assert!(!holds(b".debug_info\0"));
}
