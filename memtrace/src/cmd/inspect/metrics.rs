//! `--metrics`: the looks, and RSS between them, for Prometheus.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use jiff::Timestamp;

use crate::{
    cmd::output::say,
    inspection::Inspection,
    metrics::{About, Board, HighWater, Quantity, Reading, Target, serve},
    session::Inspector,
    sys::procfs::Resident,
};

/// How often RSS is read between looks.
pub(super) const READ_EVERY: Duration = Duration::from_millis(100);

/// A process whose looks are shown.
pub(super) struct Exported {
    board: Board,
    name: String,
    mark: HighWater,
}

impl Exported {
    /// Begins to serve, before the first look.
    pub(super) fn start(address: SocketAddr, inspector: &Inspector, quiet: bool) -> Result<Self> {
        let board = Board::default();
        let target = target(inspector);
        let name = target.about.command.clone();
        board.update(&name, |it| *it = target);
        let exporter = serve(address, board.clone())?;
        if !quiet {
            let address = exporter.address();
            say(format_args!("metrics at http://{address}/metrics{}", reach(address)));
        }
        Ok(Self { board, name, mark: HighWater::default() })
    }

    /// The memory was looked at.
    pub(super) fn look(&mut self, inspection: &Inspection) {
        let kernel = inspection.kernel;
        let reached = self.mark.reached(kernel.rss_bytes, kernel.peak_rss_bytes);
        self.board.update(&self.name, |target| {
            target.now = Reading::of(inspection);
            target.peak_rss_bytes = target.peak_rss_bytes.max(Some(kernel.peak_rss_bytes));
            target.looked_at_unix_ms = Timestamp::now().as_millisecond().try_into().ok();
            target.looks += 1;
        });
        self.reached(reached);
    }

    /// RSS was read.
    pub(super) fn resident(&mut self, resident: Resident, is_set_back: bool) {
        let reached = self.mark.reached(resident.bytes, resident.peak_bytes);
        if is_set_back {
            self.mark.set_back(resident.bytes);
        }
        self.board.update(&self.name, |target| {
            target.now.set(Quantity::Rss, resident.bytes);
            target.peak_rss_bytes = target.peak_rss_bytes.max(Some(resident.peak_bytes));
        });
        self.reached(reached);
    }

    fn reached(&self, rss_bytes: u64) {
        self.board.reached(&self.name, &Reading::default().with(Quantity::Rss, rss_bytes));
    }
}

/// Who can read them, where that is not only this machine.
fn reach(address: SocketAddr) -> &'static str {
    if address.ip().is_loopback() { "" } else { ", for whoever reaches this address" }
}

fn target(inspector: &Inspector) -> Target {
    let place = inspector.place();
    let container = place.container.unwrap_or_default();
    let about = About {
        pid: Some(inspector.pid()),
        command: inspector.command().to_owned(),
        cgroup: place.cgroup,
        container: container.id,
        pod_uid: container.pod_uid.unwrap_or_default(),
    };
    Target { about, limit_bytes: place.limit_bytes, ..Target::default() }
}
