//! What Python frames cost: the run time of malloc's entry program, as the kernel measures it, below
//! more and more Python frames; and in a service of numpy.

use aya::sys::{Stats, enable_stats};

use anyhow::{Result, ensure};

use crate::{
    Setup,
    floor::{Floor, Sites},
    kernel_objects::run_time,
    results::{Requirement, Results, Unit},
    services::start_service,
    target::{Target, Work},
    tracer::Tracer,
    walk::slope,
};

const GROUP: &str = "Python frames, by the run time of malloc's entry over an empty program";

/// Python frames below the loop that allocates.
const DEPTHS: [u64; 5] = [1, 5, 10, 20, 40];
const MOST_A_FRAME: Requirement = Requirement::MedianAtMost(60.0);
const MOST_AN_EVENT: Requirement = Requirement::MedianAtMost(2000.0);

/// The entry program of malloc.
const ENTRY: &str = "enter";

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, results: &mut Results) -> Result<()> {
    let Some(python) = setup.services_python.as_deref() else {
        results.skip("Python frames: there is no Python with numpy");
        return Ok(());
    };
    let rounds = if setup.quick { 3 } else { 11 };
    let mut frames = start_service(setup, python, "frames")?;
    let mut numpy = start_service(setup, python, "model-server")?;
    let (mut a_frame, mut an_event) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("bench: Python frames, round {round} of {rounds}");
        let mut points = [(0.0, 0.0); DEPTHS.len()];
        for (point, depth) in points.iter_mut().zip(DEPTHS) {
            *point = (depth as f64, event_ns(setup, &mut frames, 20_000, depth)?);
        }
        a_frame.push(slope(points));
        an_event.push(event_ns(setup, &mut numpy, 500, 0)?);
    }
    results.add(
        GROUP,
        "a Python frame and its native ones",
        Unit::Ns,
        &a_frame,
        Some(MOST_A_FRAME),
    );
    let name = "an event of the numpy service, stack and all";
    results.add(GROUP, name, Unit::Ns, &an_event, Some(MOST_AN_EVENT));
    Ok(())
}

/// Mean run time of malloc's entry program over that of an empty one.
fn event_ns(setup: &Setup, target: &mut Target, units: u64, depth: u64) -> Result<f64> {
    let work = Work { size_bytes: 0, depth };
    let floor = Floor::arm(target.pid(), Sites::Chosen)?;
    let empty_ns = mean_ns(std::process::id(), "empty", target, units, work);
    floor.detach();
    let tracer = Tracer::attach(&setup.memtrace, target.pid(), &[])?;
    let entry_ns = mean_ns(tracer.pid(), ENTRY, target, units, work);
    let report = tracer.finish()?;
    ensure!(report.completeness.complete, "memtrace lost {}", report.losses());
    Ok(entry_ns? - empty_ns?)
}

fn mean_ns(holder: u32, program: &str, target: &mut Target, units: u64, work: Work) -> Result<f64> {
    target.time(units / 10 + 1, work)?;
    let _measured = enable_stats(Stats::RunTime)?;
    let before = run_time(holder, program)?;
    target.time(units, work)?;
    let after = run_time(holder, program)?;
    ensure!(after.runs > before.runs, "{program} did not run");
    Ok((after.ns - before.ns) as f64 / (after.runs - before.runs) as f64)
}
