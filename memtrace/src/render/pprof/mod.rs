//! pprof's format: what `pprof`, Pyroscope, Parca and many others read. docs/exports.md says what
//! is in it.
//!
//! Functions have no `system_name`: readers that find one equal to the name take the name for
//! mangled and shorten it. Locations have no address, because the report has none.

mod message;

use std::io::{self, Write};

use flate2::{Compression, write::GzEncoder};
use prost::Message;

use super::{
    estimate,
    profile::{
        self, Sample, Strings, Tables, comments, held, samples, shown_first, start_unix_ns,
        value_types,
    },
};
use crate::report::{Module, Report};

/// Writes the profile, gzipped.
///
/// # Errors
/// Those of the writer.
pub fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let mut compressed = GzEncoder::new(out, Compression::default());
    compressed.write_all(&Builder::new(report).build().encode_to_vec())?;
    compressed.finish()?;
    Ok(())
}

/// Fills the tables while samples are made.
struct Builder<'a> {
    report: &'a Report,
    strings: Strings,
    tables: Tables<'a>,
}

impl<'a> Builder<'a> {
    /// Readers take the first mapping for the program.
    fn new(report: &'a Report) -> Self {
        let mut tables = Tables::of(report);
        tables.add_mapping_of(&report.target.executable);
        Self { report, strings: Strings::new(), tables }
    }

    fn build(mut self) -> message::Profile {
        let types = value_types(self.report.view);
        message::Profile {
            sample_type: types.map(|it| self.value_type(it)).into(),
            sample: self.samples(),
            mapping: self.mappings(),
            location: self.locations(),
            function: self.functions(),
            time_nanos: start_unix_ns(self.report),
            duration_nanos: self.report.window.duration_ns.try_into().unwrap_or(i64::MAX),
            period_type: Some(self.value_type(profile::PERIOD)),
            period: estimate::period(&self.report.sampling),
            comment: comments(self.report).iter().map(|it| self.string(it)).collect(),
            default_sample_type: self.string(shown_first(self.report.view).name),
            string_table: self.strings.into_vec(),
        }
    }

    fn samples(&mut self) -> Vec<message::Sample> {
        let view = held(self.report.view);
        let mut all = Vec::with_capacity(self.report.sites.len());
        for site in &self.report.sites {
            let samples = samples(site, view);
            if samples.is_empty() {
                continue;
            }
            let stack: Vec<_> = self.tables.add_stack(site).into_iter().map(id).collect();
            all.extend(samples.iter().map(|sample| self.sample(sample, &stack)));
        }
        all
    }

    fn sample(&mut self, sample: &Sample<'_>, stack: &[u64]) -> message::Sample {
        message::Sample {
            location_id: stack.to_vec(),
            value: sample.values().into(),
            label: self.labels(sample),
        }
    }

    /// Texts, also the thread's id: readers take numbers for amounts of something.
    fn labels(&mut self, sample: &Sample<'_>) -> Vec<message::Label> {
        let Some(thread) = sample.thread else { return Vec::new() };
        let tid = self.label("tid", &thread.tid.to_string());
        let name = thread.name.as_ref().map(|name| self.label("thread", name));
        [tid].into_iter().chain(name).collect()
    }

    fn label(&mut self, key: &str, value: &str) -> message::Label {
        message::Label { key: self.string(key), str: self.string(value) }
    }

    fn mappings(&mut self) -> Vec<message::Mapping> {
        let modules: Vec<_> = self.tables.mappings().enumerate().collect();
        modules.into_iter().map(|(index, module)| self.mapping(index, module)).collect()
    }

    /// What could be looked up has been: readers need not try.
    fn mapping(&mut self, index: usize, module: &Module) -> message::Mapping {
        message::Mapping {
            id: id(index),
            memory_start: module.start,
            memory_limit: module.end,
            file_offset: module.file_offset,
            filename: self.string(&module.path),
            build_id: self.string(module.build_id.as_deref().unwrap_or_default()),
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: true,
        }
    }

    fn locations(&self) -> Vec<message::Location> {
        self.tables.locations().enumerate().map(location).collect()
    }

    fn functions(&mut self) -> Vec<message::Function> {
        let functions: Vec<_> = self.tables.functions().enumerate().collect();
        let message = |(index, function): (usize, profile::Function<'_>)| message::Function {
            id: id(index),
            name: self.string(function.name),
            filename: self.string(function.file),
        };
        functions.into_iter().map(message).collect()
    }

    fn value_type(&mut self, it: profile::ValueType) -> message::ValueType {
        message::ValueType { r#type: self.string(it.name), unit: self.string(it.unit) }
    }

    fn string(&mut self, text: &str) -> i64 {
        self.strings.add(text) as i64
    }
}

/// The id of what has this index: 0 is none.
fn id(index: usize) -> u64 {
    index as u64 + 1
}

fn location((index, location): (usize, &profile::Location)) -> message::Location {
    let line = |line: &profile::Line| message::Line {
        function_id: id(line.function),
        line: line.line.into(),
    };
    message::Location {
        id: id(index),
        mapping_id: location.mapping.map_or(0, id),
        line: location.lines.iter().map(line).collect(),
    }
}

#[cfg(test)]
mod tests;
