//! The HTTP side: a thread of its own, so that a scrape does not wait for a look at a process.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::{Board, exposition};

/// Connections at a time; more wait.
const MAX_CONNECTIONS: usize = 32;

/// How long a request's head may take to come, and an idle connection to send another one.
const PATIENCE: Duration = Duration::from_secs(75);

/// What the kernel says no to is asked for again after this time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The thread needs little: it writes a few kilobytes of text.
const STACK_BYTES: usize = 512 << 10;

const PLAIN: &str = "text/plain; charset=utf-8";

/// Why metrics are not served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Somebody else has the port.
    #[error(
        "cannot serve metrics at {address}: the port is taken (by another memtrace?): choose \
         another one with --metrics"
    )]
    Taken {
        /// As asked for.
        address: SocketAddr,
    },
    /// The address cannot be listened at.
    #[error("cannot serve metrics at {address}: {source}")]
    Listen {
        /// As asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no thread for it.
    #[error("cannot serve metrics: {0}")]
    Thread(#[source] io::Error),
}

/// Metrics are served as long as memtrace runs.
#[derive(Debug)]
pub struct Exporter {
    address: SocketAddr,
}

impl Exporter {
    /// Where; with the port that the kernel chose if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves what is on the board at `http://ADDRESS/metrics`.
///
/// # Errors
/// When the address cannot be listened at.
pub fn serve(address: SocketAddr, board: Board) -> Result<Exporter, ServeError> {
    let listen = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::Taken { address },
        _ => ServeError::Listen { address, source },
    };
    let listener = TcpListener::bind(address).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeError::Thread)?;
    let builder = thread::Builder::new().name("metrics".to_owned()).stack_size(STACK_BYTES);
    let run = move || match runtime.block_on(accept(listener, board)) {
        Ok(never) => match never {},
        Err(error) => log::warn!("metrics are served no more: {error}"),
    };
    builder.spawn(run).map_err(ServeError::Thread)?;
    Ok(Exporter { address })
}

async fn accept(listener: TcpListener, board: Board) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of descriptors, or the other side has gone: there will be others.
            Err(error) => {
                log::debug!("a connection for metrics was not accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let board = board.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let response = answer(&request, &board);
                async { Ok::<_, Infallible>(response) }
            });
            let mut connection = http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            let served = connection.serve_connection(TokioIo::new(stream), answer).await;
            if let Err(error) = served {
                log::debug!("a connection for metrics ended: {error}");
            }
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, board: &Board) -> Response<Full<Bytes>> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let uri = request.uri();
    match uri.path() {
        "/metrics" | "/" | "/healthz" if !is_read => not_allowed(),
        "/metrics" if request.method() == Method::HEAD => text(StatusCode::OK, String::new()),
        "/metrics" => metrics(board, scraper(uri.query().unwrap_or_default())),
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/" => text(StatusCode::OK, "memtrace: metrics are at /metrics\n".to_owned()),
        _ => text(StatusCode::NOT_FOUND, "metrics are at /metrics\n".to_owned()),
    }
}

/// `scraper=NAME` of the query. Names are compared as they were sent.
fn scraper(query: &str) -> &str {
    query.split('&').find_map(|pair| pair.strip_prefix("scraper=")).unwrap_or_default()
}

fn metrics(board: &Board, scraper: &str) -> Response<Full<Bytes>> {
    match board.scrape(scraper) {
        Ok(metrics) => with_type(StatusCode::OK, exposition::CONTENT_TYPE, metrics),
        Err(error @ super::ScrapeError::TooManyScrapers { .. }) => {
            text(StatusCode::BAD_REQUEST, format!("{error}\n"))
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn not_allowed() -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
    response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
    response
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    with_type(status, PLAIN, body)
}

fn with_type(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Ipv4Addr, TcpStream},
    };

    use super::*;
    use crate::metrics::{Quantity, Reading};

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn ask(exporter: &Exporter, request: &str) -> String {
        let mut stream = TcpStream::connect(exporter.address()).unwrap();
        let text = format!("{request} HTTP/1.1\r\nhost: memtrace\r\nconnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn exporter() -> (Board, Exporter) {
        let board = Board::default();
        let now = Reading::default().with(Quantity::Rss, 4096);
        board.update("app", |target| target.now = now);
        let exporter = serve(ANY, board.clone()).unwrap();
        (board, exporter)
    }

    #[test]
    fn metrics_are_served_with_the_type_of_their_format() {
        let (_, exporter) = exporter();
        let answer = ask(&exporter, "GET /metrics");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("memtrace_target_rss_bytes{target=\"app\"} 4096\n"), "{answer}");
    }

    #[test]
    fn only_reading_the_metrics_begins_new_maxima() {
        let (board, exporter) = exporter();
        ask(&exporter, "GET /metrics");
        board.reached("app", &Reading::default().with(Quantity::Rss, 9999));
        for request in ["GET /", "GET /healthz", "HEAD /metrics", "GET /metrics?scraper=other"] {
            assert!(ask(&exporter, request).starts_with("HTTP/1.1 200"), "{request}");
        }
        let answer = ask(&exporter, "GET /metrics");
        assert!(answer.contains("max_since_last_scrape_bytes{target=\"app\"} 9999\n"), "{answer}");
    }

    #[test]
    fn what_is_not_there_or_not_allowed_is_said() {
        let (_, exporter) = exporter();
        assert!(ask(&exporter, "GET /metric").starts_with("HTTP/1.1 404"));
        let refused = ask(&exporter, "POST /metrics");
        assert!(refused.starts_with("HTTP/1.1 405"), "{refused}");
        assert!(refused.contains("allow: GET, HEAD"), "{refused}");
        // Not HTTP at all: closed, and the next one is served.
        let mut stream = TcpStream::connect(exporter.address()).unwrap();
        stream.write_all(b"\x16\x03\x01 no http\r\n\r\n").unwrap();
        assert!(ask(&exporter, "GET /healthz").contains("ok"));
    }

    #[test]
    fn a_port_that_is_taken_is_said_at_once() {
        let (_, exporter) = exporter();
        let refused = serve(exporter.address(), Board::default()).unwrap_err();
        let sentence = refused.to_string();
        assert!(matches!(refused, ServeError::Taken { .. }), "{sentence}");
        assert!(sentence.contains(&exporter.address().to_string()), "{sentence}");
        assert!(sentence.contains("--metrics"), "{sentence}");
    }

    #[test]
    fn a_scraper_names_itself_in_the_query() {
        assert_eq!(scraper("a=b&scraper=one"), "one");
        assert_eq!(scraper(""), "");
    }
}
