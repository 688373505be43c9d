//! Whether the kernel gives huge pages to memory that nobody asked them for
//! (Documentation/admin-guide/mm/transhuge.rst).

use std::{fs, path::Path};

const DIRECTORY: &str = "sys/kernel/mm/transparent_hugepage";

/// Size of the huge pages that all anonymous memory gets; `None` where it gets none by itself.
pub fn given_to_all(root: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(root.join(DIRECTORY).join(name)).ok();
    let is_given = read("enabled")?.contains("[always]");
    let bytes: u64 = read("hpage_pmd_size")?.trim().parse().ok()?;
    (is_given && bytes.is_power_of_two()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(enabled: &str, size: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join(DIRECTORY);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("enabled"), enabled).unwrap();
        fs::write(directory.join("hpage_pmd_size"), size).unwrap();
        root
    }

    #[test]
    fn only_what_is_always_given_counts() {
        let always = root("[always] madvise never\n", "2097152\n");
        assert_eq!(given_to_all(always.path()), Some(2 << 20));
        let asked = root("always [madvise] never\n", "2097152\n");
        assert_eq!(given_to_all(asked.path()), None);
        assert_eq!(given_to_all(Path::new("/nowhere")), None);
    }
}
