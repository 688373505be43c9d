//! A server that takes what is posted to it, and answers as it was told to.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver as Channel, Sender, channel},
    thread,
};

use crate::TIMEOUT;

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `POST /ingest?name=x`
    pub line: String,
    /// In the order of their arrival, names in lower case.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What is answered to one request.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// `200 OK`
    pub status: &'static str,
    /// A line without its end, or nothing.
    pub header: &'static str,
    /// What follows.
    pub body: &'static [u8],
}

impl Answer {
    /// All is well.
    pub const OK: Self = Self { status: "200 OK", header: "x-nothing: 1", body: b"{}" };
}

/// The server, which ends when all answers were given.
pub struct Receiver {
    address: SocketAddr,
    requests: Channel<Request>,
}

impl Receiver {
    /// Gives these answers, one a request.
    pub fn answering(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = channel();
        let answers = answers.to_vec();
        thread::spawn(move || {
            for answer in answers {
                serve(listener.accept().unwrap().0, answer, &sender);
            }
        });
        Self { address, requests }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request.
    pub fn request(&self) -> Request {
        self.requests.recv_timeout(TIMEOUT).expect("a request")
    }

    /// Requests that nobody has asked for yet.
    pub fn rest(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }
}

fn serve(stream: TcpStream, answer: Answer, sender: &Sender<Request>) {
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut reader = BufReader::new(&stream);
    let mut text = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let line = text();
    let headers: Vec<(String, String)> = std::iter::from_fn(|| {
        let line = text();
        let (name, value) = line.split_once(": ")?;
        Some((name.to_lowercase(), value.to_owned()))
    })
    .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.expect("a length").1.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let Answer { status, header, body: words } = answer;
    let length = words.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{header}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    (&stream).write_all(head.as_bytes()).unwrap();
    (&stream).write_all(words).unwrap();
    // Nobody may be interested any more.
    let _ = sender.send(Request { line, headers, body });
}
