//! Ends a trace from another thread.

use std::sync::Arc;

use tokio::sync::Notify;

/// A handle on a trace that is to end some day; clones are handles on the same.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Notify>);

impl Stop {
    /// Ends the trace, or the one that begins with this handle.
    pub fn stop(&self) {
        self.0.notify_one();
    }

    pub(super) async fn stopped(&self) {
        self.0.notified().await;
    }
}
