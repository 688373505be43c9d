//! What servers on this machine answer.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use crate::TIMEOUT;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 200, ...
    pub status: u16,
    /// Lines after the first, as they came.
    pub head: String,
    /// What follows.
    pub body: String,
}

/// Asks for a path. `None` when nobody listens.
pub fn try_get(address: SocketAddr, path: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    // Of version 1.0, whose answers have no pieces.
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let (first, head) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = first.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// The body of a successful answer.
pub fn get(address: SocketAddr, path: &str) -> String {
    let answer = try_get(address, path).unwrap_or_else(|| panic!("nobody is at {address}"));
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.body
}

/// An address that nobody listens at, for a server that cannot choose one itself.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A text as a value of a query.
pub fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
