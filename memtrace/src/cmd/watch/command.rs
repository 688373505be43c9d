//! A watch of a command that memtrace starts itself.

use std::{io, sync::Arc};

use anyhow::Result;

use super::{Captures, RESERVED_BYTES, Screen, Store, options, store};
use crate::{
    cli::WatchArgs,
    session::watch::{Event, WatchObserver, watch},
    sys::{
        launch::Held,
        preserve::{Preserved, preserve},
    },
};

/// A watch before its command is there.
pub struct WatchedCommand {
    args: WatchArgs,
    store: Store,
    quiet: bool,
}

impl WatchedCommand {
    /// Looks whether captures can be written.
    ///
    /// # Errors
    /// When they cannot.
    pub fn prepare(args: WatchArgs, quiet: bool) -> Result<Self> {
        Ok(Self { store: store(&args)?, args, quiet })
    }

    /// What keeps memtrace alive. To be called when the command has been made, which would inherit it,
    /// and before there are other threads.
    pub fn preserve() -> Preserved {
        preserve(RESERVED_BYTES)
    }

    /// Lets the command go when it is watched, and watches it to its end.
    ///
    /// # Errors
    /// When it cannot be watched: then it is still held.
    pub fn run(self, command: &mut Held, preserved: &Preserved) -> Result<()> {
        let Self { mut args, store, quiet } = self;
        args.pid = Some(command.pid());
        let options = options(&args)?;
        let screen = Screen::new(quiet, false);
        screen.begin(&options, &store, preserved);
        let captures = Arc::new(Captures::new(&args, store));
        let mut observer = Releasing { screen, command, released: Ok(()) };
        watch(&options, captures, &mut observer)?;
        Ok(observer.released?)
    }
}

/// The screen; and lets the command go at the moment from which on it is watched.
struct Releasing<'c> {
    screen: Screen,
    command: &'c mut Held,
    released: io::Result<()>,
}

impl WatchObserver for Releasing<'_> {
    fn happened(&mut self, event: Event<'_>) {
        if matches!(event, Event::Watching { .. }) {
            self.released = self.command.release();
        }
        self.screen.happened(event);
    }
}
