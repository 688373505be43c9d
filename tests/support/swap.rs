//! Somewhere to swap to.

use std::{
    env,
    ffi::CString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Names the disk for it in a virtual machine, whose files are in memory.
const DISK: &str = "MEMTRACE_TEST_SWAP";

/// How much there is.
pub const SWAP_BYTES: u64 = 64 << 20;

const PAGE_BYTES: u64 = 4096;

/// A file or disk that the kernel swaps to, until it is dropped. One at a time: a page goes to any that
/// is there, and comes back with it.
pub struct Swap {
    path: PathBuf,
    is_file: bool,
    _one: MutexGuard<'static, ()>,
}

impl Swap {
    /// Has the kernel swap from now on.
    pub fn on() -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let disk = env::var_os(DISK).map(PathBuf::from);
        let swap =
            Self { is_file: disk.is_none(), path: disk.unwrap_or_else(make_file), _one: one };
        write_header(&OpenOptions::new().write(true).open(&swap.path).unwrap());
        // SAFETY: the argument is a string that ends in a null byte.
        let result = unsafe { libc::swapon(swap.name().as_ptr(), 0) };
        assert_eq!(result, 0, "swapon {:?}: {}", swap.path, io::Error::last_os_error());
        swap
    }

    fn name(&self) -> CString {
        CString::new(self.path.as_os_str().as_bytes()).unwrap()
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // SAFETY: as for swapon.
        unsafe { libc::swapoff(self.name().as_ptr()) };
        if self.is_file {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn make_file() -> PathBuf {
    let name = format!("../target/swap-{}", std::process::id());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    // Written, because swap can have no holes.
    fs::write(&path, vec![0; SWAP_BYTES as usize]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// `union swap_header` of the kernel's include/linux/swap.h, as mkswap writes it, which is not everywhere.
fn write_header(file: &File) {
    const MAGIC: &[u8] = b"SWAPSPACE2";
    const VERSION: u32 = 1;
    let mut page = [0; PAGE_BYTES as usize];
    let last_page = (SWAP_BYTES / PAGE_BYTES - 1) as u32;
    page[1024..1028].copy_from_slice(&VERSION.to_ne_bytes());
    page[1028..1032].copy_from_slice(&last_page.to_ne_bytes());
    page[PAGE_BYTES as usize - MAGIC.len()..].copy_from_slice(MAGIC);
    file.write_all_at(&page, 0).unwrap();
}
