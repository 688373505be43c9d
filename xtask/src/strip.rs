//! Taking the DWARF out of a BPF object, as `llvm-strip -g` would, and the line table in `.BTF.ext`: each
//! program that the loader makes ready keeps its own copy of the lines of all functions that it calls, which
//! was most of what loading took. The rest of BTF and the symbols stay, because the loader uses them.

use anyhow::{Context, Result, ensure};
use object::build::elf::{Builder, Section, SectionData};

/// `object` without its `.debug_*` sections and its line table, and without what refers to them.
pub fn strip_debug(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("not an ELF file that can be rewritten")?;
    for section in &mut builder.sections {
        section.delete = is_debug(section);
        if name(section) == ".BTF.ext"
            && let SectionData::Data(data) = &mut section.data
        {
            *data = without_lines(data.as_slice())?.into();
        }
    }
    add_section_names(&mut builder);
    builder.delete_orphan_symbols();
    builder.delete_orphan_relocations();
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("cannot write the stripped object")?;
    Ok(stripped)
}

/// A `.BTF.ext` section (`struct btf_ext_header` of tools/lib/bpf/libbpf_internal.h, Linux 6.1) without its
/// lines, which are the last of it.
fn without_lines(section: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize| section.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
    let words = [4, 16, 20, 28].map(word);
    let [Some(header), Some(lines), Some(lines_bytes), Some(relocations_bytes)] = words else {
        anyhow::bail!("a .BTF.ext section without a header");
    };
    let start = header as usize + lines as usize;
    ensure!(
        start + lines_bytes as usize == section.len() && relocations_bytes == 0,
        "lines are not the last thing in .BTF.ext"
    );
    let mut rest = section[..start].to_vec();
    rest[20..24].fill(0);
    // Even nothing has to be inside of the section.
    rest[24..28].copy_from_slice(&lines.to_le_bytes());
    Ok(rest)
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
    // No loader applies those of `.BTF.ext`, of which nine in ten are of lines.
    let prefixes = [".debug_", ".rel.debug_", ".rela.debug_", ".rel.BTF.ext"];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
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

    /// A header, 8 bytes of functions and 4 of lines.
    const EXT: [u8; 44] = {
        let mut bytes = [0; 44];
        (bytes[4], bytes[8], bytes[12], bytes[16], bytes[20]) = (32, 0, 8, 8, 4);
        (bytes[24], bytes[39], bytes[43]) = (12, b'f', b'l');
        bytes
    };

    #[test]
    fn lines_go_and_functions_stay() {
        let rest = without_lines(&EXT).unwrap();
        assert_eq!((rest.len(), rest[39], rest[20]), (40, b'f', 0));
        assert_eq!(rest[24], 8, "where relocations would be");
        assert_eq!(without_lines(&rest).unwrap(), rest);
    }

    #[test]
    fn lines_that_are_not_where_they_are_looked_for_are_an_error() {
        assert!(without_lines(&EXT[..43]).is_err());
        assert!(without_lines(&EXT[..10]).is_err());
        let mut with_relocations = EXT;
        with_relocations[28] = 4;
        assert!(without_lines(&with_relocations).is_err());
    }

    #[test]
    fn a_file_that_is_no_object_is_refused() {
        assert!(strip_debug(b"not an object").is_err());
    }
}
