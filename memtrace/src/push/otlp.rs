//! OpenTelemetry profiles for a collector.

use std::io::{self, Write as _};

use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::{
    collector::profiles::v1development::{
        ExportProfilesServiceRequest, ExportProfilesServiceResponse,
    },
    common::v1::{AnyValue, KeyValue, any_value},
};
use prost::Message as _;

use super::{Endpoint, Label, Message};
use crate::{render, report::Report};

pub(super) const PROTOBUF: &str = "application/x-protobuf";

/// An `ExportProfilesServiceRequest`. Labels are attributes of the resource, as is the service.
pub(super) fn export(
    report: &Report,
    endpoint: &Endpoint,
    service: &str,
    labels: &[Label],
) -> io::Result<Message> {
    let mut profiles = Vec::new();
    render::otlp::write(report, &mut profiles)?;
    let mut request = ExportProfilesServiceRequest::decode(&*profiles).map_err(io::Error::other)?;
    let service = Label::new("service.name", service);
    let given = [&service].into_iter().chain(labels);
    for resource in request.resource_profiles.iter_mut().filter_map(|it| it.resource.as_mut()) {
        for label in given.clone() {
            resource.attributes.retain(|it| it.key != label.name);
            resource.attributes.push(attribute(label));
        }
    }
    Ok(Message {
        url: endpoint.url.clone(),
        content_type: PROTOBUF,
        content_encoding: Some("gzip"),
        body: gzipped(&request.encode_to_vec())?,
    })
}

/// What a collector took only a part of, in its words.
pub(super) fn rejected(answer: &[u8]) -> Option<(i64, String)> {
    let response = ExportProfilesServiceResponse::decode(answer).ok()?;
    let partial = response.partial_success?;
    (partial.rejected_profiles > 0).then_some((partial.rejected_profiles, partial.error_message))
}

fn attribute(label: &Label) -> KeyValue {
    let value = any_value::Value::StringValue(label.value.clone());
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: label.name.clone(), value, key_strindex: 0 }
}

fn gzipped(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressed = GzEncoder::new(Vec::new(), Compression::default());
    compressed.write_all(bytes)?;
    compressed.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesPartialSuccess;

    use super::*;
    use crate::report::sample;

    #[test]
    fn labels_are_attributes_of_the_resource_once_each() {
        let endpoint = Endpoint::otlp("http://c:4318").unwrap();
        let labels = [Label::new("deployment.environment", "prod")];
        let message = export(&sample::leaking(), &endpoint, "shop", &labels).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&*message.body).read_to_end(&mut bytes).unwrap();
        let request = ExportProfilesServiceRequest::decode(&*bytes).unwrap();
        let resource = request.resource_profiles[0].resource.as_ref().unwrap();
        for expected in [Label::new("service.name", "shop"), labels[0].clone()] {
            let found: Vec<_> =
                resource.attributes.iter().filter(|it| it.key == expected.name).collect();
            assert_eq!(found, [&attribute(&expected)]);
        }
        assert_eq!(request.resource_profiles[0].scope_profiles[0].profiles.len(), 4);
    }

    #[test]
    fn a_collector_that_rejects_a_part_says_so_in_its_answer() {
        let partial = ExportProfilesPartialSuccess {
            rejected_profiles: 4,
            error_message: "too old".to_owned(),
        };
        let answer = ExportProfilesServiceResponse { partial_success: Some(partial) };
        assert_eq!(rejected(&answer.encode_to_vec()), Some((4, "too old".to_owned())));
        assert_eq!(rejected(b""), None);
        assert_eq!(rejected(b"<html>"), None);
    }
}
