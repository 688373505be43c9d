//! One run of qemu.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::read;
use crate::foreign;

/// A panic must end the machine (`panic=-1` reboots at once, `-no-reboot` turns that into an end).
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 oops=panic loglevel=5 rdinit=/init";

/// Both processors are emulated by one thread, in turns: with a thread each, a processor can meet the
/// breakpoint by which the kernel patches code on another after the patching is over, and the kernel
/// then dies of it ("Oops: int3" in `__schedule`, seen on 6.12 while perf events came and went).
const ACCELERATOR: &str = "tcg,thread=single";

/// What a machine is made of.
pub struct Machine<'p> {
    /// The compressed kernel.
    pub image: &'p Path,
    /// What it finds when it boots.
    pub initrd: &'p Path,
    /// Its disk, which it swaps to; made anew.
    pub swap: &'p Path,
    /// What it writes to its console stays there.
    pub console: &'p Path,
}

/// As tests/support/swap.rs wants it.
const SWAP_BYTES: u64 = 64 << 20;

/// Boots a machine under software emulation, waits for its end and returns what it wrote to its
/// console. After `limit` it is killed, and the console says so.
pub fn run(machine: &Machine<'_>, limit: Duration) -> Result<String> {
    let Machine { image, initrd, swap, console } = machine;
    File::create(swap).and_then(|file| file.set_len(SWAP_BYTES)).context("cannot make a disk")?;
    let mut qemu = Command::new(foreign::qemu()?)
        .args(["-accel", ACCELERATOR, "-cpu", "max", "-smp", "2", "-m", "1G"])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-drive")
        .arg(format!("if=none,id=swap,format=raw,file={}", swap.display()))
        .args(["-device", "nvme,drive=swap,serial=swap"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", COMMAND_LINE])
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start qemu")?;
    let ended = wait(&mut qemu, limit)?;
    let mut log = String::from_utf8_lossy(&read(console)?).into_owned();
    match ended {
        None => log += &format!("\nqemu was still running after {} s: killed\n", limit.as_secs()),
        Some(status) if !status.success() => bail!("qemu: {status}"),
        Some(_) => {}
    }
    Ok(log)
}

/// The end of `child`, or None if it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        sleep(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_never_ends_is_killed() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(wait(&mut child, Duration::from_millis(100)).unwrap(), None);
    }

    #[test]
    fn a_machine_that_ends_is_not_waited_for_longer() {
        let mut child = Command::new("true").spawn().unwrap();
        let ended = wait(&mut child, Duration::from_secs(100)).unwrap();
        assert!(ended.is_some_and(|status| status.success()));
    }
}
