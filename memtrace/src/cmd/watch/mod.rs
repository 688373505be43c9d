//! `memtrace watch`: from arguments to captures that nobody asked for by hand.

mod capture;
mod command;
mod hook;
mod screen;
mod stage;
mod store;

use std::{env, num::NonZeroU32, path::Path, sync::Arc};

use anyhow::Result;

pub use self::command::WatchedCommand;
use self::{capture::Captures, screen::Screen, store::Store};
use super::Status;
use crate::{
    cli::WatchArgs,
    session::watch::{Subject, WatchEnd, WatchOptions, watch},
    sys::{
        cgroup::{self, Group, Wanted},
        preserve::preserve,
    },
    trigger::{Bound, Condition, Metric},
    watch::keep::Allowance,
};

/// Heap that is taken at the start: what a capture needs.
const RESERVED_BYTES: usize = 20 << 20;

/// Where no condition is given: most of what there is room for is in use.
const DEFAULT_SHARE: f64 = 0.8;

/// Runs the command.
pub fn run(args: &WatchArgs, quiet: bool) -> Result<Status> {
    let preserved = preserve(RESERVED_BYTES);
    let options = options(args)?;
    let store = store(args)?;
    let mut screen = Screen::new(quiet, args.json);
    if let Some(address) = args.metrics {
        screen.serve(address)?;
    }
    screen.begin(&options, &store, &preserved);
    let captures = Arc::new(Captures::new(args, store));
    let end = watch(&options, captures.clone(), &mut screen);
    captures.remove_empty();
    let end = end?;
    Ok(match end {
        WatchEnd::Fired => Status::Fired,
        WatchEnd::Ended | WatchEnd::Interrupted => Status::Done,
    })
}

fn store(args: &WatchArgs) -> Result<Store> {
    let allowance = Allowance { captures: args.keep.into(), bytes: args.max_disk };
    Store::open(&args.output, allowance)
}

fn options(args: &WatchArgs) -> Result<WatchOptions> {
    let conditions = match &*args.conditions {
        [] => vec![Condition {
            metric: Metric::Rss,
            bound: Bound::Share(DEFAULT_SHARE),
            hold: std::time::Duration::ZERO,
        }],
        given => given.to_vec(),
    };
    Ok(WatchOptions {
        subject: subject(args)?,
        conditions,
        duration: args.duration,
        cool_down: args.cool_down,
        once: args.once,
        follow: args.follow,
        status_every: args.every,
        tell_looks: args.metrics.is_some(),
        command_line: env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
    })
}

/// The parser sees to it that there is exactly one.
fn subject(args: &WatchArgs) -> Result<Subject> {
    let root = Path::new(cgroup::ROOT);
    if let Some(path) = &args.cgroup {
        return Ok(Subject::Group(Group::open(root, path)?));
    }
    let unit = args.unit.clone().map(Wanted::Unit);
    let container = || args.container.clone().map(Wanted::Container);
    let pod = || args.pod.clone().map(Wanted::Pod);
    if let Some(wanted) = unit.or_else(container).or_else(pod) {
        return Ok(Subject::Group(cgroup::find(root, &wanted)?));
    }
    if let Some(name) = &args.comm {
        return Ok(Subject::Command(name.clone()));
    }
    Ok(Subject::Process(args.pid.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)))
}
