//! Sends a message, again where that can help.

use std::{io::ErrorKind, thread, time::Duration};

use thiserror::Error;
use ureq::{
    Agent, Body,
    http::{Response, StatusCode},
    tls::{RootCerts, TlsConfig},
};

use super::{Message, backoff, otlp};
use crate::render;

/// What is read of an answer.
const ANSWER_BYTES: u64 = 16 << 10;

/// What is shown of it.
const SHOWN_CHARS: usize = 300;

/// How to send.
#[derive(Clone, Debug)]
pub struct Sending {
    /// More headers, e.g. for authorization; their values are never shown.
    pub headers: Vec<(String, String)>,
    /// For each attempt, from the name's resolution to the last byte of the answer.
    pub timeout: Duration,
    /// More attempts after the first one.
    pub retries: u32,
}

/// It was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// 200, 204, ...
    pub status: u16,
    /// Attempts that it took.
    pub attempts: u32,
    /// Bytes of the body that was sent.
    pub sent_bytes: u64,
}

/// Why it was not taken.
#[derive(Debug, Error)]
pub enum PushError {
    /// The server said no.
    #[error("{url} answered {status}{}{}", of(.words), after(*.attempts))]
    Refused {
        /// Without its query.
        url: String,
        /// e.g. `401 Unauthorized`.
        status: String,
        /// What the server says, for people.
        words: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A collector took only a part.
    #[error("{url} took a part only: {rejected} of the profiles were rejected{}", of(.words))]
    Rejected {
        /// Without its query.
        url: String,
        /// How many.
        rejected: i64,
        /// Why.
        words: String,
    },
    /// There was no answer.
    #[error("cannot send to {url}: {source}{}", after(*.attempts))]
    NoAnswer {
        /// Without its query.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
        /// How often it was tried.
        attempts: u32,
    },
}

fn of(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

fn after(attempts: u32) -> String {
    if attempts > 1 { format!(" (after {attempts} attempts)") } else { String::new() }
}

/// How an attempt went.
enum Attempt {
    Taken(u16),
    Failed(PushError, Option<Duration>),
    /// To try again is of no use.
    Hopeless(PushError),
}

/// Sends it. `pausing` is told of each failure that is followed by another attempt, and of the
/// pause before that.
///
/// # Errors
/// When no attempt succeeds.
pub fn send(
    message: &Message,
    sending: &Sending,
    mut pausing: impl FnMut(&PushError, Duration),
) -> Result<Receipt, PushError> {
    let agent = agent(sending.timeout);
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt(&agent, message, sending, attempts) {
            Attempt::Taken(status) => {
                let sent_bytes = message.body.len() as u64;
                return Ok(Receipt { status, attempts, sent_bytes });
            }
            Attempt::Failed(error, retry_after) if attempts <= sending.retries => {
                let pause = backoff::pause(attempts, retry_after);
                pausing(&error, pause);
                thread::sleep(pause);
            }
            Attempt::Failed(error, _) | Attempt::Hopeless(error) => return Err(error),
        }
    }
}

/// A redirection is not followed: the body and its authorization would go elsewhere. Certificates
/// are checked by the system's own authorities, where a company's are, too.
fn agent(timeout: Duration) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("memtrace/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        .build();
    config.into()
}

fn attempt(agent: &Agent, message: &Message, sending: &Sending, attempts: u32) -> Attempt {
    let mut request = agent.post(&message.url).header("content-type", message.content_type);
    if let Some(encoding) = message.content_encoding {
        request = request.header("content-encoding", encoding);
    }
    for (name, value) in &sending.headers {
        request = request.header(name, value);
    }
    match request.send(&message.body[..]) {
        Ok(mut response) => judge(&mut response, message, attempts),
        Err(error) => no_answer(error, message, attempts),
    }
}

fn no_answer(error: ureq::Error, message: &Message, attempts: u32) -> Attempt {
    let is_passing = matches!(
        error,
        ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::ConnectionFailed
            | ureq::Error::HostNotFound
    );
    // Of TLS: a certificate that is not trusted will not be so later.
    let is_passing =
        is_passing && !matches!(&error, ureq::Error::Io(io) if io.kind() == ErrorKind::InvalidData);
    let error = PushError::NoAnswer { url: shown(message), source: Box::new(error), attempts };
    if is_passing { Attempt::Failed(error, None) } else { Attempt::Hopeless(error) }
}

fn judge(response: &mut Response<Body>, message: &Message, attempts: u32) -> Attempt {
    let status = response.status();
    let retry_after = response.headers().get("retry-after").and_then(|it| it.to_str().ok());
    let retry_after = backoff::retry_after(retry_after);
    let location = response.headers().get("location").and_then(|it| it.to_str().ok());
    let location = location.map(|it| format!("it moved to {it}"));
    let limited = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec();
    let answer = limited.unwrap_or_default();
    if status.is_success() {
        return taken(status, &answer, message);
    }
    let error = PushError::Refused {
        url: shown(message),
        status: status.to_string(),
        words: words(&location.unwrap_or_else(|| String::from_utf8_lossy(&answer).into_owned())),
        attempts,
    };
    match backoff::is_worth_it(status.as_u16()) {
        true => Attempt::Failed(error, retry_after),
        false => Attempt::Hopeless(error),
    }
}

fn taken(status: StatusCode, answer: &[u8], message: &Message) -> Attempt {
    let is_otlp = message.content_type == otlp::PROTOBUF;
    match otlp::rejected(answer).filter(|_| is_otlp) {
        Some((rejected, reason)) => Attempt::Hopeless(PushError::Rejected {
            url: shown(message),
            rejected,
            words: words(&reason),
        }),
        None => Attempt::Taken(status.as_u16()),
    }
}

/// A query may hold keys.
fn shown(message: &Message) -> String {
    message.url.split('?').next().unwrap_or_default().to_owned()
}

/// A server's words as one line that no terminal obeys.
fn words(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = render::clean(&line);
    match line.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_are_one_short_line_without_control_characters() {
        assert_eq!(words("no\n\x1b[2J  such\ttenant\n"), "no ?[2J such tenant");
        assert!(words(&"x".repeat(10_000)).chars().count() < SHOWN_CHARS + 5);
        assert_eq!(words(" \n"), "");
    }

    #[test]
    fn keys_in_a_query_are_not_shown() {
        let message = Message {
            url: "http://c/x?key=secret".to_owned(),
            content_type: "",
            content_encoding: None,
            body: Vec::new(),
        };
        assert_eq!(shown(&message), "http://c/x");
    }
}
