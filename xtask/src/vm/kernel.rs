//! Debian's kernels for virtual machines: downloaded, unpacked, never installed.

use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    apt,
    shell::{say, work_dir},
};

/// A kernel that can be booted.
pub struct Kernel {
    /// The compressed image.
    pub image: PathBuf,
    /// What `uname -r` says there.
    pub release: String,
}

/// The newest kernel of `series`, such as `6.1`. One that was fetched before is taken again:
/// removing `target/vm` fetches anew.
pub fn get(series: &str) -> Result<Kernel> {
    let dir = work_dir("vm").join(series);
    if let Some(kernel) = unpacked(&dir) {
        return Ok(kernel);
    }
    let package = newest_package(series)?;
    say(format_args!("kernel {series}: downloading {package} (not installing it)"));
    fs::create_dir_all(&dir)?;
    apt::unpack(&package, &dir)?;
    unpacked(&dir).with_context(|| format!("{package} holds no kernel image"))
}

/// The kernel that lies unpacked in `dir`: `root/boot/vmlinuz-RELEASE`.
fn unpacked(dir: &Path) -> Option<Kernel> {
    fs::read_dir(dir.join("root/boot")).ok()?.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let release = name.strip_prefix("vmlinuz-")?.to_owned();
        Some(Kernel { image: entry.path(), release })
    })
}

fn newest_package(series: &str) -> Result<String> {
    apt::refresh();
    let packages = all_packages()?;
    let Some(package) = newest(&packages, series) else {
        bail!(
            "apt has no kernel {series} for the cloud; it has: {}. On Debian 12, 6.12 comes from \
             bookworm-security, 6.1 from bookworm",
            packages.join(", ")
        );
    };
    Ok(package)
}

fn all_packages() -> Result<Vec<String>> {
    apt::search("^linux-image-[0-9][0-9a-z.+-]*-cloud-amd64$")
}

/// The package of the highest version in `series`. `6.1` is not `6.12`.
fn newest(packages: &[String], series: &str) -> Option<String> {
    let prefix = format!("linux-image-{series}.");
    let of_series = packages.iter().filter(|package| package.starts_with(&prefix));
    of_series.max_by(|a, b| by_numbers(a, b)).cloned()
}

/// Compares the numbers in two names: `6.12.101` comes after `6.12.99`.
fn by_numbers(a: &str, b: &str) -> Ordering {
    numbers(a).cmp(&numbers(b))
}

fn numbers(name: &str) -> Vec<u32> {
    let digits = name.split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGES: [&str; 6] = [
        "linux-image-6.1.0-9-cloud-amd64",
        "linux-image-6.1.0-56-cloud-amd64",
        "linux-image-6.12-cloud-amd64",
        "linux-image-6.12.99+deb12-cloud-amd64",
        "linux-image-6.12.117+deb12-cloud-amd64",
        "linux-image-6.1.0-47-cloud-amd64",
    ];

    fn newest_of(series: &str) -> Option<String> {
        newest(&PACKAGES.map(str::to_owned), series)
    }

    #[test]
    fn the_newest_of_a_series_is_by_number_not_by_letter() {
        assert_eq!(newest_of("6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(newest_of("6.12").as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64"));
    }

    #[test]
    fn a_series_that_apt_lacks_is_not_replaced_by_another() {
        assert_eq!(newest_of("6.6"), None);
        assert_eq!(newest_of("6"), newest_of("6.12"));
    }
}
