//! What unwind tables take and cost at the attach, for a process with much code.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::{
    Setup,
    kernel_objects::map_bytes_by_name,
    programs::interpreter,
    results::{Requirement, Results, Unit},
    target::Target,
    tracer::Tracer,
};

/// What the code is brought by, beside numpy: about 60 MB of text together.
const MUCH_CODE: &str = "
import numpy
try:
    import pandas
except ImportError:
    pass
print('ready', flush=True)
input()";

/// Of these maps the tables are made.
const TABLE_MAPS: [&str; 4] = ["ROWS", "PAGES", "RULES", "MAPPINGS"];

const MOST_BYTES: Requirement = Requirement::AllBelow((2 << 20) as f64);
const MOST_BUILD: Requirement = Requirement::MedianAtMost(500e6);
const MOST_ATTACH: Requirement = Requirement::MedianAtMost(1e9);

/// Samples by name; the order of the first attach.
#[derive(Default)]
struct Samples(Vec<(String, Unit, Option<Requirement>, Vec<f64>)>);

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, results: &mut Results) -> Result<()> {
    let rounds = if setup.quick { 3 } else { 10 };
    for python in &setup.python {
        eprintln!("bench: tables of {}", interpreter(python));
        let group = format!("Unwind tables of numpy and pandas in {}", interpreter(python));
        measure_python(setup, python, rounds)?.add_to(&group, results);
    }
    if setup.python.is_empty() {
        results.skip("unwind tables: no python3 that can import numpy");
    }
    Ok(())
}

fn measure_python(setup: &Setup, python: &Path, rounds: u32) -> Result<Samples> {
    let target = Target::start(Command::new(python).args(["-c", MUCH_CODE]))?;
    let mut samples = Samples::default();
    for _ in 0..rounds {
        samples.take(setup, target.pid())?;
    }
    Ok(samples)
}

impl Samples {
    fn take(&mut self, setup: &Setup, pid: u32) -> Result<()> {
        let tracer = Tracer::attach(&setup.memtrace, pid, &[])?;
        let maps = map_bytes_by_name(tracer.pid())?;
        let map_bytes: u64 = TABLE_MAPS.iter().filter_map(|name| maps.get(*name)).sum();
        let attach_ns = tracer.armed_after.as_nanos() as f64;
        let report = tracer.finish()?;
        let tables = report.unwind_tables.unwrap_or_default();
        self.add("objects", Unit::Count, tables.objects as f64, None);
        self.add("text", Unit::Bytes, tables.text_bytes as f64, None);
        self.add("rows", Unit::Count, tables.rows as f64, None);
        self.add("index entries", Unit::Count, tables.pages as f64, None);
        self.add("rules", Unit::Count, tables.rules as f64, None);
        self.add("tables", Unit::Bytes, tables.size_bytes as f64, Some(MOST_BYTES));
        self.add(
            "their maps in the kernel, with room to grow",
            Unit::Bytes,
            map_bytes as f64,
            None,
        );
        self.add("building them", Unit::Ns, tables.build_ns as f64, Some(MOST_BUILD));
        self.add("attach, from exec to armed", Unit::Ns, attach_ns, Some(MOST_ATTACH));
        for step in &report.window.attach_steps {
            let name = format!("of it: {}", step.step);
            self.add(&name, Unit::Ns, step.duration_ns as f64, None);
        }
        Ok(())
    }

    fn add(&mut self, name: &str, unit: Unit, value: f64, requirement: Option<Requirement>) {
        match self.0.iter_mut().find(|(known, ..)| known == name) {
            Some((.., values)) => values.push(value),
            None => self.0.push((name.to_owned(), unit, requirement, vec![value])),
        }
    }

    fn add_to(self, group: &str, results: &mut Results) {
        for (name, unit, requirement, values) in self.0 {
            results.add(group, name, unit, &values, requirement);
        }
    }
}
