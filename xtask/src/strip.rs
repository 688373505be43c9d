//! Taking the DWARF out of a BPF object, as `llvm-strip -g` would: BTF, the line table in
//! `.BTF.ext` and the symbols stay, because the loader and the verifier's log use them.

use anyhow::{Context, Result};
use object::build::elf::{Builder, Section, SectionData};

/// `object` without its `.debug_*` sections, and without what refers to them.
pub fn strip_debug(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("not an ELF file that can be rewritten")?;
    for section in &mut builder.sections {
        section.delete = is_debug(section);
    }
    add_section_names(&mut builder);
    builder.delete_orphan_symbols();
    builder.delete_orphan_relocations();
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("cannot write the stripped object")?;
    Ok(stripped)
}

/// LLVM keeps the names of sections in the symbols' string table; the writer wants its own.
fn add_section_names(builder: &mut Builder<'_>) {
    if builder.sections.iter().any(|it| matches!(it.data, SectionData::SectionString)) {
        return;
    }
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
}

/// Name and number of instructions of every program section, by name.
pub fn programs(object: &[u8]) -> Result<Vec<(String, usize)>> {
    let builder = Builder::read(object)?;
    let code = builder.sections.iter().filter(|it| it.sh_flags & EXECUTABLE != 0);
    let mut sizes: Vec<_> = code
        .filter_map(|section| match &section.data {
            SectionData::Data(data) => Some((name(section), data.len() / INSTRUCTION_BYTES)),
            _ => None,
        })
        .collect();
    sizes.sort();
    Ok(sizes)
}

/// SHF_EXECINSTR of the ELF specification.
const EXECUTABLE: u64 = object::elf::SHF_EXECINSTR as u64;

/// Every BPF instruction has 64 bits, the wide ones twice that (RFC 9669, section 3).
const INSTRUCTION_BYTES: usize = 8;

fn is_debug(section: &Section<'_>) -> bool {
    let name = name(section);
    [".debug_", ".rel.debug_", ".rela.debug_"].iter().any(|prefix| name.starts_with(prefix))
}

fn name(section: &Section<'_>) -> String {
    String::from_utf8_lossy(section.name.as_slice()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    /// An object file with DWARF, made by the C compiler.
    fn compiled() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let (source, object) = (dir.path().join("a.c"), dir.path().join("a.o"));
        fs::write(&source, "int callee(void); int caller(void) { return callee(); }\n").unwrap();
        let mut cc = Command::new("cc");
        assert!(
            cc.args(["-g", "-c"]).arg(&source).arg("-o").arg(&object).status().unwrap().success()
        );
        fs::read(object).unwrap()
    }

    fn sections(object: &[u8]) -> Vec<String> {
        Builder::read(object).unwrap().sections.iter().map(name).collect()
    }

    #[test]
    fn debug_sections_go_and_code_relocations_and_symbols_stay() {
        let (before, after) = (compiled(), strip_debug(&compiled()).unwrap());
        assert!(sections(&before).iter().any(|it| it == ".debug_info"));
        let kept = sections(&after);
        assert!(kept.iter().all(|it| !it.contains("debug")), "{kept:?}");
        for section in [".text", ".rela.text", ".symtab"] {
            assert!(kept.iter().any(|it| it == section), "{section} of {kept:?}");
        }
        assert_eq!(programs(&before).unwrap(), programs(&after).unwrap());
    }

    #[test]
    fn a_file_that_is_no_object_is_refused() {
        assert!(strip_debug(b"not an object").is_err());
    }
}
