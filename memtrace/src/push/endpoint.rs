//! Where a report is sent: the URL that was given, completed by what the protocol puts there.

use thiserror::Error;
use ureq::http::Uri;

/// Where Pyroscope takes profiles: the Connect API's `push.v1.PusherService` (api/push/v1/push.proto of
/// grafana/pyroscope).
const PYROSCOPE_PUSH: &str = "/push.v1.PusherService/Push";

/// Where it took them before, and what is compatible with it still does (its "legacy HTTP API").
const PYROSCOPE_INGEST: &str = "/ingest";

/// Where collectors take profiles by HTTP, as long as the signal is in development (the otlphttp
/// exporter and otlpreceiver of the OpenTelemetry collector).
const OTLP_PROFILES: &str = "/v1development/profiles";

/// What is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// pprof in a message of Pyroscope's push API.
    PyroscopePush,
    /// pprof as it is, with what it is of in the query.
    PyroscopeIngest,
    /// OTLP by HTTP, in protocol buffers.
    Otlp,
}

/// A URL that is no place to send something to.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EndpointError {
    /// It cannot be read as one.
    #[error("`{0}` is no URL: write one like http://localhost:4040")]
    NotAUrl(String),
    /// Only these are spoken.
    #[error("`{0}`: a URL begins with http:// or https://")]
    Scheme(String),
    /// Errors and logs would show it.
    #[error("a password has no place in the URL: use --header Authorization=@FILE")]
    Password,
}

/// Where to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Complete, but for the query of [`Protocol::PyroscopeIngest`].
    pub url: String,
    /// What is spoken.
    pub protocol: Protocol,
}

impl Endpoint {
    /// For pprof. A URL without a path is a server's, of which the push API is used; one that ends
    /// in `/ingest` is of the older API; any other is taken as it is.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn pprof(url: &str) -> Result<Self, EndpointError> {
        let uri = parse(url)?;
        let protocol = match uri.path().ends_with(PYROSCOPE_INGEST) {
            true => Protocol::PyroscopeIngest,
            false => Protocol::PyroscopePush,
        };
        Ok(Self { url: with_path(url, &uri, PYROSCOPE_PUSH), protocol })
    }

    /// For OpenTelemetry profiles. A URL without a path is a collector's.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn otlp(url: &str) -> Result<Self, EndpointError> {
        let uri = parse(url)?;
        Ok(Self { url: with_path(url, &uri, OTLP_PROFILES), protocol: Protocol::Otlp })
    }
}

fn parse(url: &str) -> Result<Uri, EndpointError> {
    let no_url = || EndpointError::NotAUrl(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| no_url())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(EndpointError::Scheme(url.to_owned()));
    }
    let authority = uri.authority().ok_or_else(no_url)?;
    if authority.as_str().contains('@') {
        return Err(EndpointError::Password);
    }
    Ok(uri)
}

fn with_path(url: &str, uri: &Uri, path: &str) -> String {
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    if is_bare { format!("{}{path}", url.trim_end_matches('/')) } else { url.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(endpoint: Result<Endpoint, EndpointError>) -> (String, Protocol) {
        let Endpoint { url, protocol } = endpoint.unwrap();
        (url, protocol)
    }

    #[test]
    fn a_server_without_a_path_is_given_the_protocols_own() {
        let push = "http://pyroscope:4040/push.v1.PusherService/Push".to_owned();
        for server in ["http://pyroscope:4040", "http://pyroscope:4040/"] {
            assert_eq!(url(Endpoint::pprof(server)), (push.clone(), Protocol::PyroscopePush));
        }
        let (collector, protocol) = url(Endpoint::otlp("https://collector:4318"));
        assert_eq!(collector, "https://collector:4318/v1development/profiles");
        assert_eq!(protocol, Protocol::Otlp);
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        let ingest = "http://alloy:9999/ingest";
        let expected = (ingest.to_owned(), Protocol::PyroscopeIngest);
        assert_eq!(url(Endpoint::pprof(ingest)), expected);
        let own = "https://example.org/tenant/profiles?key=1";
        assert_eq!(url(Endpoint::otlp(own)), (own.to_owned(), Protocol::Otlp));
    }

    #[test]
    fn what_is_no_place_to_send_to_is_refused() {
        for wrong in ["", "localhost:4040", "ftp://x", "/ingest", "http://", "http://a b"] {
            assert!(Endpoint::pprof(wrong).is_err(), "{wrong}");
        }
        let refused = Endpoint::pprof("http://user:secret@host").unwrap_err();
        assert_eq!(refused, EndpointError::Password);
        assert!(!refused.to_string().contains("secret"));
    }
}
