//! Which types the kernel's functions are.

use std::path::Path;

use super::{Btf, BtfError, HEADER_BYTES, KIND_FORWARD, KIND_FUNCTION, MAGIC, TYPE_BYTES, read};

/// The kernel's BTF with nothing in it but functions with these names, as the same types as there: as a
/// whole it takes 30 MiB once each of its types is something of its own, which a watch has not got.
///
/// # Errors
/// When there is no BTF. What it has not got is not in the result either.
pub fn functions_of_kernel(btf: &Path, names: &[&str]) -> Result<Vec<u8>, BtfError> {
    let bytes = read(btf)?;
    let btf = Btf::parse(&bytes).ok_or(BtfError::Unknown { what: "anything" })?;
    Ok(functions(&btf, names))
}

fn functions(btf: &Btf<'_>, names: &[&str]) -> Vec<u8> {
    let (mut types, mut strings, mut passed) = (Vec::new(), vec![0], 0);
    for (index, found) in btf.types().enumerate() {
        let is_it = |name: &&&str| btf.is_named(found.name, name);
        if found.kind != KIND_FUNCTION {
            continue;
        }
        if let Some(name) = names.iter().find(is_it) {
            // A type is named by its place, so something has to be in each.
            types.extend([0, KIND_FORWARD << 24, 0].repeat(index - passed));
            types.extend([strings.len() as u32, KIND_FUNCTION << 24, 0]);
            strings.extend(name.bytes().chain([0]));
            passed = index + 1;
        }
    }
    let types_bytes = types.len() as u32 * size_of::<u32>() as u32;
    let version_and_magic = u32::from(MAGIC) | 1 << 16;
    let header =
        [version_and_magic, HEADER_BYTES as u32, 0, types_bytes, types_bytes, strings.len() as u32];
    debug_assert!(types.len() * size_of::<u32>() == passed * TYPE_BYTES);
    header.into_iter().chain(types).flat_map(u32::to_le_bytes).chain(strings).collect()
}

#[cfg(test)]
mod tests {
    use aya::Endianness;
    use aya_obj::btf::{Btf as Parsed, BtfKind};

    use super::*;
    use crate::sys::btf::KERNEL_BTF;

    #[test]
    fn functions_are_the_same_types_as_in_the_whole() {
        let names = ["vm_mmap_pgoff", "do_exit", "no_such_function"];
        let whole = Parsed::from_sys_fs().unwrap();
        let bytes = functions_of_kernel(Path::new(KERNEL_BTF), &names).unwrap();
        let part = Parsed::parse(&bytes, Endianness::default()).unwrap();
        let id = |btf: &Parsed, name| btf.id_by_type_name_kind(name, BtfKind::Func).ok();
        for name in names {
            assert_eq!(id(&part, name), id(&whole, name), "{name}");
        }
        assert!(id(&part, "do_exit").is_some() && id(&part, "no_such_function").is_none());
        assert!(id(&part, "vfs_read").is_none(), "it was not asked for");
    }

    #[test]
    fn of_what_is_no_btf_there_are_none() {
        assert!(functions_of_kernel(Path::new("/proc/self/exe"), &["do_exit"]).is_err());
        assert!(functions_of_kernel(Path::new("/nowhere"), &["do_exit"]).is_err());
    }
}
