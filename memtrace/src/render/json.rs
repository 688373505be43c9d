//! The report as one JSON document; docs/report-json.md describes every field.

use std::io;

use serde::Serialize;

use crate::{
    diff::Diff, doctor::Diagnosis, inspection::Inspection, report::Report, whatif::result::WhatIf,
};

/// Writes the document and a newline.
///
/// # Errors
/// Those of the writer.
pub fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    write_document(report, out)
}

/// Writes a diagnosis as one document and a newline; docs/doctor.md describes every field.
///
/// # Errors
/// Those of the writer.
pub fn write_diagnosis(diagnosis: &Diagnosis, out: &mut impl io::Write) -> io::Result<()> {
    write_document(diagnosis, out)
}

/// Writes what came of replays as one document and a newline; docs/whatif.md describes every field.
///
/// # Errors
/// Those of the writer.
pub fn write_whatif(result: &WhatIf, out: &mut impl io::Write) -> io::Result<()> {
    write_document(result, out)
}

/// Writes a look at a process as one document and a newline; docs/inspect-json.md describes every
/// field.
///
/// # Errors
/// Those of the writer.
pub fn write_inspection(inspection: &Inspection, out: &mut impl io::Write) -> io::Result<()> {
    write_document(inspection, out)
}

/// The same on one line, for many looks one after the other (JSON lines).
///
/// # Errors
/// Those of the writer.
pub fn write_inspection_line(inspection: &Inspection, out: &mut impl io::Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, inspection)?;
    out.write_all(b"\n")
}

/// Writes the difference of two captures as one document and a newline; docs/diff.md describes every
/// field.
///
/// # Errors
/// Those of the writer.
pub fn write_diff(diff: &Diff, out: &mut impl io::Write) -> io::Result<()> {
    write_document(diff, out)
}

fn write_document(document: &impl Serialize, out: &mut impl io::Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::{inspection, report::sample};

    fn rendered(report: &Report) -> Vec<u8> {
        let mut out = Vec::new();
        write(report, &mut out).unwrap();
        out
    }

    #[test]
    fn the_document_is_one_value_and_a_newline() {
        let out = rendered(&sample::lossy());
        assert!(out.ends_with(b"}\n"));
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["schema"], "memtrace-report/1");
        assert_eq!(value["sites"][0]["survivors"]["bytes"], 470 << 20);
    }

    fn field_names(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    names.insert(name.clone());
                    field_names(value, names);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| field_names(value, names)),
            _ => {}
        }
    }

    #[test]
    fn every_field_is_documented() {
        // The heap's parts are those of an inspection.
        let document = concat!(
            include_str!("../../../docs/report-json.md"),
            include_str!("../../../docs/inspect-json.md")
        );
        let mut report = sample::lossy();
        let mut inlined = (*report.sites[0].stack.frames[2]).clone();
        inlined.inlined = true;
        report.sites[0].stack.frames[2] = inlined.into();
        let mut names = BTreeSet::new();
        field_names(&serde_json::to_value(&report).unwrap(), &mut names);
        field_names(&serde_json::to_value(sample::python()).unwrap(), &mut names);
        field_names(&serde_json::to_value(sample::sampled()).unwrap(), &mut names);
        assert!(names.contains("high_count") && names.contains("share"));
        assert!(names.contains("refused") && names.contains("bytes_per_s"));
        assert!(names.contains("inlined") && names.contains("missing_root"));
        for name in names {
            assert!(document.contains(&format!("`{name}`")), "{name} is not documented");
        }
    }

    #[test]
    fn every_field_of_an_inspection_is_documented() {
        // The verdict is the report's.
        let verdict = include_str!("../../../docs/report-json.md");
        let document = [include_str!("../../../docs/inspect-json.md"), verdict].concat();
        let mut names = BTreeSet::new();
        for look in [inspection::sample::fragmented(), inspection::sample::incomplete()] {
            field_names(&serde_json::to_value(&look).unwrap(), &mut names);
        }
        assert!(names.contains("attached_threads") && names.contains("reason"));
        for name in names {
            assert!(document.contains(&format!("`{name}`")), "{name} is not documented");
        }
    }

    #[test]
    fn every_field_of_a_difference_is_documented() {
        // The two windows are those of reports.
        let report = include_str!("../../../docs/report-json.md");
        let document = [include_str!("../../../docs/diff.md"), report].concat();
        let mut names = BTreeSet::new();
        field_names(
            &serde_json::to_value(crate::render::diff::sample::rebuilt()).unwrap(),
            &mut names,
        );
        assert!(names.contains("growth_bytes") && names.contains("after_bytes_per_s"));
        for name in names {
            assert!(document.contains(&format!("`{name}`")), "{name} is not documented");
        }
    }

    #[test]
    fn a_line_of_many_looks_holds_no_newline_but_the_last() {
        let mut out = Vec::new();
        write_inspection_line(&inspection::sample::fragmented(), &mut out).unwrap();
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert!(out.ends_with(b"}\n"));
    }

    #[test]
    fn every_field_of_a_diagnosis_is_documented() {
        let document = include_str!("../../../docs/doctor.md");
        let mut diagnosis = crate::doctor::sample::lacking();
        // Its keys are reasons, not fields.
        diagnosis.objects.iter_mut().for_each(|object| object.unwind.unsupported.clear());
        let mut names = BTreeSet::new();
        field_names(&serde_json::to_value(&diagnosis).unwrap(), &mut names);
        assert!(names.contains("remedy") && names.contains("unsupported_functions"));
        for name in names {
            assert!(document.contains(&format!("`{name}`")), "{name} is not documented");
        }
    }
}
