//! pprof for Pyroscope, Alloy and what else speaks like them.

use std::{fmt::Write as _, io};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Endpoint, Label, Message};
use crate::{render, report::Report};

/// Pyroscope's name for profiles of memory, under which it has `inuse_space` and its kin.
const MEMORY: &str = "memory";

/// A `PushRequest` of push.proto, as JSON.
pub(super) fn push(report: &Report, endpoint: &Endpoint, labels: &[Label]) -> io::Result<Message> {
    let profile = pprof(report)?;
    let pair = |(name, value): (&str, &str)| json!({"name": name, "value": value});
    let given = labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
    let labels: Vec<Value> = [("__name__", MEMORY)].into_iter().chain(given).map(pair).collect();
    let sample = json!({"ID": id(&profile), "rawProfile": STANDARD.encode(&profile)});
    let request = json!({"series": [{"labels": labels, "samples": [sample]}]});
    Ok(Message {
        url: endpoint.url.clone(),
        content_type: "application/json",
        content_encoding: None,
        body: serde_json::to_vec(&request)?,
    })
}

/// The same by `/ingest`: labels, time and format are in the query.
pub(super) fn ingest(
    report: &Report,
    endpoint: &Endpoint,
    service: &str,
    labels: &[Label],
) -> io::Result<Message> {
    let (from, until) = seconds(report);
    let name = escaped(&application(service, labels));
    let separator = if endpoint.url.contains('?') { '&' } else { '?' };
    let mut url = format!("{}{separator}name={name}", endpoint.url);
    // Writing to a string does not fail.
    let _ = write!(url, "&from={from}&until={until}&format=pprof&spyName=memtrace");
    Ok(Message {
        url,
        content_type: "application/octet-stream",
        content_encoding: None,
        body: pprof(report)?,
    })
}

fn pprof(report: &Report) -> io::Result<Vec<u8>> {
    let mut profile = Vec::new();
    render::pprof::write(report, &mut profile)?;
    Ok(profile)
}

/// A UUID (version 8, RFC 9562) of the profile's bytes: what is sent twice has one id.
fn id(profile: &[u8]) -> String {
    let hash = Sha256::digest(profile);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// `shop{region=eu}`: there is no way to quote what divides labels, which becomes `_`.
fn application(service: &str, labels: &[Label]) -> String {
    let plain = |text: &str| text.replace(['{', '}', ',', '=', '"'], "_");
    let given = labels.iter().filter(|label| label.name != "service_name");
    let given = given.map(|it| format!("{}={}", plain(&it.name), plain(&it.value)));
    format!("{}{{{}}}", plain(service), given.collect::<Vec<_>>().join(","))
}

/// When the window was opened and closed, since 1970.
fn seconds(report: &Report) -> (i64, i64) {
    let from = report.window.started_at.parse::<Timestamp>().map_or(0, Timestamp::as_second);
    let duration = i64::try_from(report.window.duration_ns / 1_000_000_000).unwrap_or(0);
    // A window of less than a second is one of a second there.
    (from, from.saturating_add(duration.max(1)))
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_request_names_the_service_and_holds_the_profile() {
        let endpoint = Endpoint::pprof("http://p:4040").unwrap();
        let labels = [Label::new("service_name", "shop")];
        let message = push(&sample::leaking(), &endpoint, &labels).unwrap();
        let request: Value = serde_json::from_slice(&message.body).unwrap();
        let series = &request["series"][0];
        assert_eq!(series["labels"][0], json!({"name": "__name__", "value": "memory"}));
        assert_eq!(series["labels"][1], json!({"name": "service_name", "value": "shop"}));
        let raw = series["samples"][0]["rawProfile"].as_str().unwrap();
        let profile = STANDARD.decode(raw).unwrap();
        assert_eq!(profile, pprof(&sample::leaking()).unwrap());
        assert_eq!(&profile[..2], [0x1f, 0x8b], "gzipped");
    }

    #[test]
    fn the_same_profile_has_the_same_id_and_another_has_another() {
        let one = id(b"one");
        assert_eq!(one, id(b"one"));
        assert_ne!(one, id(b"two"));
        assert_eq!((one.len(), &one[14..15]), (36, "8"), "{one}");
    }

    #[test]
    fn by_ingest_time_and_labels_are_in_the_query() {
        let endpoint = Endpoint::pprof("http://p:4040/ingest?tenant=a").unwrap();
        let labels = [Label::new("service_name", "shop"), Label::new("zone", "a,b=c")];
        let message = ingest(&sample::leaking(), &endpoint, "shop", &labels).unwrap();
        let query = message.url.split_once('?').unwrap().1;
        assert!(query.starts_with("tenant=a&name=shop%7Bzone%3Da%5Fb%5Fc%7D&from=17"), "{query}");
        assert!(query.ends_with("&format=pprof&spyName=memtrace"), "{query}");
    }
}
