//! What was read of a process or a control group at one moment.

/// What conditions are evaluated on; `None` is what the system does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// As [`super::Metric::Rss`].
    pub rss_bytes: u64,
    /// What there is room for: the lowest limit of the control groups, or the memory of the machine.
    pub room_bytes: Option<u64>,
    /// What is swapped out.
    pub swap_bytes: Option<u64>,
    /// Share of the time since the reading before in which some task waited for memory, 0 to 1.
    pub pressure: Option<f64>,
    /// In which all tasks did.
    pub full_pressure: Option<f64>,
    /// What malloc holds free and cannot give back, when the heap was last walked.
    pub trapped_bytes: Option<u64>,
    /// Since the reading before.
    pub major_faults_per_second: Option<f64>,
}
