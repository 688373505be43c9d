//! Attributes: of the process, as OpenTelemetry's semantic conventions name them, and the table of
//! those that samples, locations, objects and profiles refer to.

use indexmap::IndexSet;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    profiles::v1development::KeyValueAndUnit,
    resource::v1::Resource,
};

use crate::{
    model::{place::Place, stack::Language},
    render::{label::clean, profile::Strings},
    report::{Report, Target},
};

/// A value that can be looked up.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Truth(bool),
}

impl Value {
    /// A text that may come from the target.
    pub(super) fn text(text: &str) -> Self {
        Self::Text(clean(text))
    }
}

impl From<Value> for AnyValue {
    fn from(value: Value) -> Self {
        let value = match value {
            Value::Text(text) => any_value::Value::StringValue(text),
            Value::Number(number) => any_value::Value::IntValue(number),
            Value::Truth(truth) => any_value::Value::BoolValue(truth),
        };
        Self { value: Some(value) }
    }
}

/// Each attribute once; index 0 is none.
#[derive(Default)]
pub(super) struct Attributes(IndexSet<(&'static str, Value)>);

impl Attributes {
    /// The index of an attribute.
    pub(super) fn add(&mut self, key: &'static str, value: Value) -> i32 {
        super::index(self.0.insert_full((key, value)).0)
    }

    /// All of them.
    pub(super) fn into_table(self, strings: &mut Strings) -> Vec<KeyValueAndUnit> {
        let attribute = |(key, value): (&str, Value)| KeyValueAndUnit {
            key_strindex: strings.add(key) as i32,
            value: Some(value.into()),
            unit_strindex: 0,
        };
        super::table(self.0.into_iter().map(attribute))
    }
}

/// `profile.frame.type`.
pub(super) fn frame_type(language: Language) -> Value {
    Value::text(match language {
        Language::Native => "native",
        Language::Python => "cpython",
    })
}

/// The process.
pub(super) fn resource(report: &Report) -> Resource {
    let Target { pid, command, command_line, executable, .. } = &report.target;
    let name = executable.rsplit('/').next().unwrap_or_default();
    let attributes = [
        ("service.name", Value::text(command)),
        ("process.pid", Value::Number((*pid).into())),
        ("process.command", Value::text(command_line.first().unwrap_or(command))),
        ("process.executable.name", Value::text(name)),
        ("process.executable.path", Value::text(executable)),
    ];
    let attributes = attributes.into_iter().chain(place(&report.place));
    let attribute = |(key, value): (&str, Value)| KeyValue {
        key: key.to_owned(),
        value: Some(value.into()),
        key_strindex: 0,
    };
    Resource { attributes: attributes.map(attribute).collect(), ..Resource::default() }
}

/// Where it ran, as far as it is known.
fn place(place: &Place) -> impl Iterator<Item = (&'static str, Value)> {
    let host = Some(place.host.name.as_str()).filter(|name| !name.is_empty());
    let container = place.container.as_ref();
    let attributes = [
        ("host.name", host),
        ("container.id", container.map(|it| it.id.as_str())),
        ("container.runtime", container.and_then(|it| it.runtime.as_deref())),
        ("k8s.pod.uid", container.and_then(|it| it.pod_uid.as_deref())),
    ];
    let known = attributes.map(|(key, text)| Some((key, Value::text(text?))));
    known.into_iter().flatten()
}
