//! The files that a process runs, mapped to be read. They may be larger than the memory that is left;
//! what was read of them is given up again and again, and taken anew where it is still wanted.

use std::{
    fs::File,
    io,
    ops::Deref,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use memmap2::{Mmap, UncheckedAdvice};

/// What is read of smaller files may stay.
const LARGE_BYTES: usize = 16 << 20;

/// How often what was read is given up. Memory is read at some 2 GB a second: 10 MB meanwhile.
const PAUSE: Duration = Duration::from_millis(5);

/// The bytes of a program or library that a process runs.
pub struct MappedFile(Mmap);

impl MappedFile {
    /// Maps all of a file. Where memtrace locks its memory, not this: it can be read again.
    ///
    /// # Errors
    /// The kernel's, for what is no file that can be mapped.
    pub fn new(file: &File) -> io::Result<Self> {
        // SAFETY: who truncates the file kills the process that runs it, and memtrace with it, but
        // corrupts nothing. Changed bytes are read as any other.
        let mapped = unsafe { Mmap::map(file) }?;
        if let Err(error) = mapped.unlock() {
            log::debug!("a mapped file stays locked: {error}");
        }
        Ok(Self(mapped))
    }

    /// Hands the bytes over. Of a large file, not much stays in memory meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        if self.0.len() < LARGE_BYTES {
            return read(&self.0);
        }
        thread::scope(|scope| {
            let (done, is_done) = channel();
            scope.spawn(move || {
                while is_done.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                    self.give_up();
                }
            });
            // Dropped, also by a panic, it ends the thread.
            let _done: Sender<()> = done;
            read(&self.0)
        })
    }

    fn give_up(&self) {
        // SAFETY: the pages are the file's, nobody writes to them, and who reads them meanwhile gets
        // them back out of the file.
        if let Err(error) = unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) } {
            log::debug!("pages of a file stay in memory: {error}");
        }
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    /// Of this process, in bytes.
    fn resident_file_bytes() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    #[test]
    fn what_was_read_of_a_large_file_does_not_stay() {
        const BLOCK: usize = 1 << 20;
        const BLOCKS: usize = 192;
        let mut file = tempfile::tempfile().unwrap();
        for number in 0..BLOCKS {
            file.write_all(&[number as u8; BLOCK]).unwrap();
        }
        let mapped = MappedFile::new(&file).unwrap();
        let before = resident_file_bytes();
        let most = mapped.read(|bytes| {
            let read = |(number, block): (usize, &[u8])| {
                assert!(block.iter().step_by(4096).all(|byte| *byte == number as u8));
                thread::sleep(Duration::from_millis(1));
                resident_file_bytes().saturating_sub(before)
            };
            bytes.chunks(BLOCK).enumerate().map(read).max().unwrap()
        });
        assert!(most < (BLOCKS * BLOCK / 2) as u64, "{most} bytes were resident");
    }

    #[test]
    fn an_empty_file_has_no_bytes() {
        let mapped = MappedFile::new(&tempfile::tempfile().unwrap()).unwrap();
        assert_eq!(mapped.read(<[u8]>::len), 0);
    }
}
