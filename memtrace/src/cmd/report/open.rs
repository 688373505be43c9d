//! Opens a capture, or says what is wrong with the file and what to do.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    path::Path,
};

use anyhow::{Context as _, Result, anyhow, bail};

use super::{
    likeness::likeness,
    working::{Watched, Working},
};
use crate::capture::{Opened, ReadError, Reader};

/// What is looked at of a file that is no capture.
const HEAD_BYTES: u64 = 4096;

/// Opens the file at the path.
pub fn open(path: &Path, working: &Working) -> Result<Opened<Watched<File>>> {
    let name = path.display();
    let mut file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    let metadata = file.metadata().with_context(|| format!("cannot open {name}"))?;
    if metadata.is_dir() {
        bail!("{name} is a directory: give the PREFIX.memtrace that attach wrote into it");
    }
    if !metadata.is_file() {
        bail!(
            "{name} is not a file: a capture is read from several places, so that a pipe will not do"
        );
    }
    let watched = working.watch(file.try_clone().context("cannot read the file")?, metadata.len());
    match Reader::open(watched) {
        Ok(opened) => Ok(opened),
        Err(ReadError::NotACapture) => Err(not_a_capture(path, &mut file)),
        Err(error) => Err(anyhow::Error::new(error).context(format!("cannot read {name}"))),
    }
}

fn not_a_capture(path: &Path, file: &mut File) -> anyhow::Error {
    let mut head = Vec::new();
    let read = file.rewind().and_then(|()| file.take(HEAD_BYTES).read_to_end(&mut head));
    let likeness = read.map_or("what it is cannot be read", |_| likeness(&head));
    anyhow!(
        "{} is not a capture: {likeness}; attach writes the capture as PREFIX.memtrace",
        path.display()
    )
}
