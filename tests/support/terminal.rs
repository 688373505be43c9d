//! A shell with job control on a terminal of its own, and somebody who types.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::Command,
    sync::mpsc::{Receiver, channel},
    time::Instant,
};

use nix::sys::signal::{SigHandler, Signal};
use rustix::{
    process::{ioctl_tiocsctty, setsid},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{TIMEOUT, running::Running};

/// What the shell shows when it waits for a command.
const PROMPT: &str = "READY>";

/// See the module.
pub struct Terminal {
    keys: File,
    shown: Receiver<Vec<u8>>,
    /// What was shown and not looked for yet.
    text: String,
    _shell: Running,
}

impl Terminal {
    /// A terminal of this size, with bash in it.
    pub fn open(columns: u16, rows: u16) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let side = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        resize(&screen, columns, rows);
        let side = OwnedFd::from(side);
        let mut command = Command::new("/bin/bash");
        command.args(["--norc", "--noprofile", "-i"]).env("TERM", "dumb");
        command.stdin(side.try_clone().unwrap()).stdout(side.try_clone().unwrap()).stderr(side);
        let own_terminal = || {
            setsid()?;
            // What is started in the background of a script ignores them, and so do its children.
            for signal in [Signal::SIGINT, Signal::SIGQUIT] {
                // SAFETY: no handler is set.
                unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
            }
            let stdin = rustix::stdio::stdin();
            Ok(ioctl_tiocsctty(stdin)?)
        };
        // SAFETY: between fork and exec, it makes system calls only and touches no memory of others.
        unsafe { command.pre_exec(own_terminal) };
        let shell = Running::start(&mut command);
        drop(command);
        let keys = File::from(screen);
        let shown = shown(keys.try_clone().unwrap());
        let mut terminal = Self { keys, shown, text: String::new(), _shell: shell };
        // Not as it is typed, or its echo would be taken for it.
        terminal.type_line("PS1='REA''DY> '");
        terminal.until(PROMPT);
        terminal
    }

    /// Types something.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        self.press(&format!("{line}\n"));
    }

    /// Reads until this is shown; what was shown before it.
    pub fn until(&mut self, wanted: &str) -> String {
        let begun = Instant::now();
        loop {
            if let Some((before, after)) = self.text.split_once(wanted) {
                let (before, after) = (before.to_owned(), after.to_owned());
                self.text = after;
                return before;
            }
            let left = TIMEOUT.saturating_sub(begun.elapsed());
            let more = self.shown.recv_timeout(left);
            let more = more.unwrap_or_else(|_| panic!("no {wanted:?} in:\n{}", self.text));
            self.text.push_str(&String::from_utf8_lossy(&more));
        }
    }

    /// Reads until the shell waits again; what was shown meanwhile.
    pub fn until_prompt(&mut self) -> String {
        self.until(PROMPT)
    }

    /// The exit status of the last command.
    pub fn status(&mut self) -> i32 {
        self.type_line("echo \"status=\"$?.");
        self.until("status=");
        // Of the typed line, then of what it printed.
        self.until("status=");
        let status = self.until(".").parse().unwrap();
        self.until_prompt();
        status
    }

    /// Makes it another size.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        resize(&self.keys, columns, rows);
    }
}

fn resize(screen: impl std::os::fd::AsFd, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(screen.as_fd(), size).unwrap();
}

/// What appears, until the last of those who have the terminal is gone.
fn shown(mut screen: File) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        loop {
            match screen.read(&mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    if sender.send(bytes[..count].to_vec()).is_err() {
                        return;
                    }
                }
            }
        }
    });
    receiver
}
