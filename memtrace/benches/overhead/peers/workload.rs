//! What the tools are tried on.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::{
    http::Http,
    redis::Redis,
    sqlite::Sqlite,
    subject::{Subject, Talker},
};
use crate::{Setup, process::which};

/// A program at work.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub enum Workload {
    Pairs,
    #[value(name = "pairs-8")]
    PairsOf8,
    Churn,
    Sqlite,
    Redis,
    Pusher,
    ModelServer,
    Http,
}

use Workload::{
    Churn, Http as HttpService, ModelServer, Pairs, PairsOf8, Pusher, Redis as RedisServer,
    Sqlite as SqliteShell,
};

impl Workload {
    pub const ALL: [Self; 8] =
        [Pairs, PairsOf8, Churn, SqliteShell, RedisServer, Pusher, ModelServer, HttpService];

    /// Those that a leak is planted in.
    pub const LEAKING: [Self; 4] = [Pusher, ModelServer, HttpService, RedisServer];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Pairs => "pairs",
            PairsOf8 => "pairs, 8 threads",
            Churn => "churn, 2 threads",
            SqliteShell => "sqlite3",
            RedisServer => "redis",
            Pusher => "pusher",
            ModelServer => "model server",
            HttpService => "HTTP service",
        }
    }

    pub fn is_python(self) -> bool {
        matches!(self, Pusher | ModelServer | HttpService)
    }

    /// Why it cannot be run.
    pub fn missing(self, setup: &Setup) -> Option<String> {
        let programs: &[&str] = match self {
            SqliteShell => &["sqlite3"],
            RedisServer => &["redis-server", "redis-benchmark"],
            HttpService => &["wrk"],
            Pairs | PairsOf8 | Churn | Pusher | ModelServer => &[],
        };
        if let Some(program) = programs.iter().find(|program| which(program).is_none()) {
            return Some(format!("there is no {program} in PATH"));
        }
        let lacks_python = self.is_python() && setup.services_python.is_none();
        lacks_python.then(|| "there is no Python with what the services need".to_owned())
    }

    /// More threads than one want more CPUs than one.
    pub fn is_pinned(self) -> bool {
        !matches!(self, PairsOf8 | Churn)
    }

    /// Functions that the planted leak is made by, each alone a sign of it.
    pub fn leaking_functions(self) -> &'static [&'static str] {
        match self {
            // What a SET stores is made while the request is read, its key and entry later.
            RedisServer => &["processMultibulkBuffer", "setCommand"],
            Pusher => &["keep_for_replay"],
            ModelServer => &["keep_version"],
            HttpService => &["keep_audit_trail"],
            Pairs | PairsOf8 | Churn | SqliteShell => &[],
        }
    }

    /// How it is run.
    pub fn command(self, setup: &Setup, leaks: bool) -> Result<Command> {
        let built = |name: &str| setup.targets.join(name);
        let mut command = match self {
            Pairs | PairsOf8 | Churn => Command::new(built("threads")),
            SqliteShell => Command::new("sqlite3"),
            RedisServer => Command::new("redis-server"),
            Pusher | ModelServer | HttpService => {
                Command::new(setup.services_python.as_deref().context("no Python for services")?)
            }
        };
        match self {
            Pairs => command.args(["pairs", "1"]),
            PairsOf8 => command.args(["pairs", "8"]),
            Churn => command.args(["churn", "2"]),
            SqliteShell => command.arg(":memory:"),
            RedisServer => command.args(["--port", "0", "--save", "", "--unixsocket"]),
            Pusher => service(&mut command, &built("service.py"), "pusher", leaks),
            ModelServer => service(&mut command, &built("service.py"), "model-server", leaks),
            HttpService => command.arg(built("http_service.py")).args(leaks.then_some("--leak")),
        };
        Ok(command)
    }

    /// Starts it by its command, which a tool may have wrapped.
    pub fn start(self, setup: &Setup, command: &mut Command) -> Result<Box<dyn Subject>> {
        Ok(match self {
            SqliteShell => Box::new(Sqlite::start(command, &setup.targets.join("work.sql"))?),
            RedisServer => Box::new(Redis::start(command)?),
            HttpService => Box::new(Http::start(command)?),
            Pairs | PairsOf8 | Churn | Pusher | ModelServer => Box::new(Talker::start(command)?),
        })
    }
}

fn service<'c>(
    command: &'c mut Command,
    script: &Path,
    name: &str,
    leaks: bool,
) -> &'c mut Command {
    let suffix = if leaks { "-leak" } else { "" };
    command.arg(script).arg(format!("{name}{suffix}")).env("OPENBLAS_NUM_THREADS", "1")
}
