//! What wakes a watch.

use std::path::Path;

use tokio::io::{Interest, unix::AsyncFd};

use super::super::{Subject, WatchError, WatchOptions, looking::pressure_file};
use crate::{
    probe::oom::OomEvents,
    session::run::readable,
    sys::{
        btf::{KERNEL_BTF, oom_layout},
        pressure::{PressureTrigger, Stalled, stalls},
    },
    trigger::{Bound, Condition, Metric},
};

pub(super) fn announcements() -> Result<AsyncFd<OomEvents>, String> {
    let layout = oom_layout(Path::new(KERNEL_BTF)).map_err(|error| error.to_string())?;
    let events = OomEvents::open(&layout).map_err(|error| error.to_string())?;
    readable(events).map_err(|error| error.to_string())
}

/// The kernel's trigger for the first condition on pressure. Without pressure at all it is refused;
/// without triggers (as in some containers) looks have to do.
pub(super) fn pressure(
    options: &WatchOptions,
) -> Result<Option<(AsyncFd<PressureTrigger>, Condition)>, WatchError> {
    let is_of_pressure =
        |it: &&Condition| matches!(it.metric, Metric::Pressure | Metric::FullPressure);
    let Some(condition) = options.conditions.iter().find(is_of_pressure) else { return Ok(None) };
    let of_group = match &options.subject {
        Subject::Group(group) => group.pressure_file(),
        _ => None,
    };
    let file = pressure_file(of_group);
    stalls(&file)?;
    let Bound::Share(share) = condition.bound else { return Ok(None) };
    let who = match condition.metric {
        Metric::FullPressure => Stalled::Full,
        _ => Stalled::Some,
    };
    let opened = PressureTrigger::open(&file, who, share).map_err(|error| error.to_string());
    let registered =
        opened.and_then(|trigger| with_priority(trigger).map_err(|error| error.to_string()));
    match registered {
        Ok(trigger) => Ok(Some((trigger, *condition))),
        Err(error) => {
            log::info!("the kernel does not wake memtrace on pressure: {error}");
            Ok(None)
        }
    }
}

fn with_priority(trigger: PressureTrigger) -> std::io::Result<AsyncFd<PressureTrigger>> {
    // SAFETY: the trigger owns its descriptor and keeps it open for as long as it lives, which is as
    // long as the registration.
    unsafe { AsyncFd::register_with_interest(trigger, Interest::PRIORITY) }
        .map_err(|error| error.into_parts().1)
}

/// Waits for a descriptor, if there is one; what made it ready is the caller's to take.
pub(super) async fn ready<T: std::os::fd::AsRawFd>(
    fd: Option<&mut AsyncFd<T>>,
    interest: Interest,
) {
    let Some(fd) = fd else { return std::future::pending().await };
    match fd.ready_mut(interest).await {
        Ok(mut guard) => guard.clear_ready(),
        // Nothing more is to be had of it.
        Err(_) => std::future::pending().await,
    }
}
