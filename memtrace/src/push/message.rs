//! What is sent.

use std::io;

use super::{Endpoint, Protocol, otlp, pyroscope};
use crate::{model::place::Place, report::Report};

/// What a profile is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// e.g. `region`.
    pub name: String,
    /// e.g. `eu-west`.
    pub value: String,
}

impl Label {
    /// From its parts.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// A request, but for its authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub url: String,
    /// What the body is.
    pub content_type: &'static str,
    /// How it is packed, where the protocol tells that by a header.
    pub content_encoding: Option<&'static str>,
    /// The body.
    pub body: Vec<u8>,
}

/// The request that sends a report to an endpoint. `service` is what it is found by; more labels may
/// follow, and replace those that memtrace would give.
///
/// # Errors
/// Those of the renderers.
pub fn message(
    report: &Report,
    endpoint: &Endpoint,
    service: &str,
    labels: &[Label],
) -> io::Result<Message> {
    match endpoint.protocol {
        Protocol::PyroscopePush => {
            pyroscope::push(report, endpoint, &with_own(report, service, labels))
        }
        Protocol::PyroscopeIngest => {
            pyroscope::ingest(report, endpoint, service, &with_own(report, service, labels))
        }
        Protocol::Otlp => otlp::export(report, endpoint, service, labels),
    }
}

/// The labels that memtrace gives, and what was given; the last of a name counts.
fn with_own(report: &Report, service: &str, given: &[Label]) -> Vec<Label> {
    let Place { host, container, .. } = &report.place;
    let container = container.as_ref();
    let own = [
        ("service_name", Some(service)),
        ("hostname", Some(host.name.as_str()).filter(|name| !name.is_empty())),
        ("container_id", container.map(|it| it.id.as_str())),
        ("pod_uid", container.and_then(|it| it.pod_uid.as_deref())),
    ];
    let own = own.into_iter().filter_map(|(name, value)| Some(Label::new(name, value?)));
    let mut all: Vec<Label> = Vec::new();
    for label in own.chain(given.iter().cloned()) {
        all.retain(|it| it.name != label.name);
        all.push(label);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn labels_that_are_given_replace_memtraces_own() {
        let given = [Label::new("hostname", "other"), Label::new("region", "eu")];
        let labels = with_own(&sample::leaking(), "shop", &given);
        let value = |name: &str| {
            let of_name: Vec<_> = labels.iter().filter(|it| it.name == name).collect();
            assert_eq!(of_name.len(), 1, "{name}: {labels:?}");
            of_name[0].value.clone()
        };
        assert_eq!(value("service_name"), "shop");
        assert_eq!(value("hostname"), "other");
        assert_eq!(value("region"), "eu");
    }
}
