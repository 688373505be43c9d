//! OpenTelemetry profiles: `ProfilesData` of `opentelemetry.proto.profiles.v1development`, as
//! released in opentelemetry-proto 1.10, in protocol buffers. docs/exports.md says what is in it.
//!
//! The same bytes are an `ExportProfilesServiceRequest`. A profile has one type of value, so there
//! are four of them. Entry 0 of each table is empty: it stands for "none".

mod attributes;

use std::{io, iter};

use opentelemetry_proto::tonic::{
    common::v1::InstrumentationScope,
    profiles::v1development::{
        Function, Line, Link, Location, Mapping, Profile, ProfilesData, ProfilesDictionary,
        ResourceProfiles, Sample, ScopeProfiles, Stack, ValueType,
    },
};
use prost::Message;

use self::attributes::{Attributes, Value, frame_type, resource};
use super::profile::{self, Strings, Tables, held, losses, samples, start_unix_ns, value_types};
use crate::report::{Module, Report, ThreadShare};

/// Writes the message.
///
/// # Errors
/// Those of the writer.
pub fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    out.write_all(&Builder::new(report).build().encode_to_vec())
}

/// Fills the tables while profiles are made.
struct Builder<'a> {
    report: &'a Report,
    strings: Strings,
    tables: Tables<'a>,
    attributes: Attributes,
    stacks: Vec<Stack>,
}

/// What the four profiles have in common: a stack, whose it is, and all values.
struct Row {
    stack: i32,
    attributes: Vec<i32>,
    values: [i64; 4],
}

impl<'a> Builder<'a> {
    fn new(report: &'a Report) -> Self {
        Self {
            report,
            strings: Strings::new(),
            tables: Tables::of(report),
            attributes: Attributes::default(),
            stacks: Vec::new(),
        }
    }

    fn build(mut self) -> ProfilesData {
        let scope = InstrumentationScope {
            name: "memtrace".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_profiles = ScopeProfiles {
            scope: Some(scope),
            profiles: self.profiles(),
            ..ScopeProfiles::default()
        };
        let resource_profiles = ResourceProfiles {
            resource: Some(resource(self.report)),
            scope_profiles: vec![scope_profiles],
            ..ResourceProfiles::default()
        };
        ProfilesData {
            resource_profiles: vec![resource_profiles],
            dictionary: Some(self.dictionary()),
        }
    }

    fn profiles(&mut self) -> Vec<Profile> {
        let rows = self.rows();
        let about = self.about();
        let types = value_types(self.report.view).into_iter().enumerate();
        types.map(|(at, value_type)| self.profile(value_type, at, &rows, &about)).collect()
    }

    fn profile(
        &mut self,
        value_type: profile::ValueType,
        at: usize,
        rows: &[Row],
        about: &[i32],
    ) -> Profile {
        let sample = |row: &Row| Sample {
            stack_index: row.stack,
            attribute_indices: row.attributes.clone(),
            values: vec![row.values[at]],
            ..Sample::default()
        };
        Profile {
            sample_type: Some(self.value_type(value_type)),
            samples: rows.iter().filter(|row| row.values[at] != 0).map(sample).collect(),
            time_unix_nano: start_unix_ns(self.report).try_into().unwrap_or_default(),
            duration_nano: self.report.window.duration_ns,
            period_type: Some(self.value_type(profile::PERIOD)),
            period: super::estimate::period(&self.report.sampling),
            attribute_indices: about.to_vec(),
            ..Profile::default()
        }
    }

    fn rows(&mut self) -> Vec<Row> {
        let view = held(self.report.view);
        let mut rows = Vec::with_capacity(self.report.sites.len());
        for site in &self.report.sites {
            let samples = samples(site, view);
            if samples.is_empty() {
                continue;
            }
            let stack = self.tables.add_stack(site).into_iter().map(index).collect();
            self.stacks.push(Stack { location_indices: stack });
            let stack = self.stacks.len() as i32;
            rows.extend(samples.iter().map(|sample| Row {
                stack,
                attributes: self.of_thread(sample.thread),
                values: sample.values(),
            }));
        }
        rows
    }

    fn of_thread(&mut self, thread: Option<&ThreadShare>) -> Vec<i32> {
        let Some(thread) = thread else { return Vec::new() };
        let id = self.attributes.add("thread.id", Value::Number(thread.tid.into()));
        let name = thread.name.as_ref();
        let name = name.map(|name| self.attributes.add("thread.name", Value::text(name)));
        iter::once(id).chain(name).collect()
    }

    /// Attributes of a profile, for which there are no conventions: what it is of, and what it
    /// lacks.
    fn about(&mut self) -> Vec<i32> {
        let Report { view, window, completeness, .. } = self.report;
        let age = window.min_age_ns.try_into().unwrap_or(i64::MAX);
        let losses = losses(self.report).join("\n");
        vec![
            self.attributes.add("memtrace.view", Value::text(view.label())),
            self.attributes.add("memtrace.min_age_ns", Value::Number(age)),
            self.attributes.add("memtrace.complete", Value::Truth(completeness.complete)),
            self.attributes.add("memtrace.losses", Value::Text(losses)),
        ]
    }

    fn dictionary(mut self) -> ProfilesDictionary {
        ProfilesDictionary {
            mapping_table: self.mappings(),
            location_table: self.locations(),
            function_table: self.functions(),
            link_table: vec![Link::default()],
            stack_table: table(self.stacks),
            attribute_table: self.attributes.into_table(&mut self.strings),
            string_table: self.strings.into_vec(),
        }
    }

    fn mappings(&mut self) -> Vec<Mapping> {
        let modules: Vec<_> = self.tables.mappings().collect();
        table(modules.into_iter().map(|module| self.mapping(module)))
    }

    fn mapping(&mut self, module: &Module) -> Mapping {
        let key = "process.executable.build_id.gnu";
        let build_id = module.build_id.as_ref();
        let build_id = build_id.map(|id| self.attributes.add(key, Value::text(id)));
        Mapping {
            memory_start: module.start,
            memory_limit: module.end,
            file_offset: module.file_offset,
            filename_strindex: self.strings.add(&module.path) as i32,
            attribute_indices: build_id.into_iter().collect(),
        }
    }

    fn locations(&mut self) -> Vec<Location> {
        let (tables, attributes) = (&self.tables, &mut self.attributes);
        table(tables.locations().map(|it| location(it, attributes)))
    }

    fn functions(&mut self) -> Vec<Function> {
        let (tables, strings) = (&self.tables, &mut self.strings);
        table(tables.functions().map(|function| Function {
            name_strindex: strings.add(function.name) as i32,
            filename_strindex: strings.add(function.file) as i32,
            ..Function::default()
        }))
    }

    fn value_type(&mut self, it: profile::ValueType) -> ValueType {
        let [type_strindex, unit_strindex] =
            [it.name, it.unit].map(|text| self.strings.add(text) as i32);
        ValueType { type_strindex, unit_strindex }
    }
}

fn location(location: &profile::Location, attributes: &mut Attributes) -> Location {
    let line = |line: &profile::Line| Line {
        function_index: index(line.function),
        line: line.line.into(),
        column: 0,
    };
    let frame_type = location.language.map(frame_type);
    let frame_type = frame_type.map(|it| attributes.add("profile.frame.type", it));
    Location {
        mapping_index: location.mapping.map_or(0, index),
        address: 0,
        lines: location.lines.iter().map(line).collect(),
        attribute_indices: frame_type.into_iter().collect(),
    }
}

/// A table of the dictionary: first comes what stands for "none".
fn table<T: Default>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    iter::once(T::default()).chain(items).collect()
}

/// Where [`table`] has the item of this index.
fn index(index: usize) -> i32 {
    index as i32 + 1
}

#[cfg(test)]
mod tests;
