//! Output of a child, line by line, with time limits.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Instant,
};

use crate::TIMEOUT;

/// Lines that a thread reads from a pipe.
pub struct Lines {
    source: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    /// Starts to read.
    pub fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, source) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n') {
                let Ok(line) = line else { break };
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        Self { source, seen: Vec::new() }
    }

    /// The next line; `None` at the end of the output.
    pub fn next_line(&mut self) -> Option<String> {
        match self.source.recv_timeout(TIMEOUT) {
            Ok(line) => {
                self.seen.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("no further line within {TIMEOUT:?}, after:\n{}", self.seen.join("\n"))
            }
        }
    }

    /// The next line that contains `text`; `None` when the output ends before.
    pub fn find(&mut self, text: &str) -> Option<String> {
        let start = Instant::now();
        while let Some(line) = self.next_line() {
            if line.contains(text) {
                return Some(line);
            }
            let seen = || self.seen.join("\n");
            assert!(start.elapsed() < TIMEOUT, "no {text:?} within {TIMEOUT:?}:\n{}", seen());
        }
        None
    }

    /// Reads to the end; everything ever seen.
    pub fn rest(&mut self) -> String {
        while self.next_line().is_some() {}
        self.seen.join("\n")
    }
}
