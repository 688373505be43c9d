//! `memtrace push`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    ViewArg,
    parse::{parse_duration, parse_interval},
};

const EXAMPLES: &str = "\
Examples:
  memtrace push app.memtrace --to http://pyroscope:4040 --label region=eu-west
  memtrace push app.memtrace --to https://collector:4318 --format otlp
  memtrace push app.memtrace --to https://profiles.example --header Authorization=@/run/secrets/token

Exit status: 0 it was taken; 2 it was not.";

/// `memtrace push`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PushArgs {
    /// The capture: PREFIX.memtrace, as attach wrote it
    #[arg(value_name = "CAPTURE")]
    pub capture: PathBuf,

    /// Where to: a server (http://HOST:PORT, to which the protocol's own path is added) or a whole URL
    #[arg(long, value_name = "URL")]
    pub to: String,

    /// What to send
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: PushFormat,

    /// What it is found by: service_name, service.name [default: the name of the process]
    #[arg(long, value_name = "SERVICE")]
    pub name: Option<String>,

    /// A label (pprof) or attribute of the resource (otlp); can be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,

    /// A header, e.g. X-Scope-OrgID=TENANT; its value from a file: Authorization=@FILE; can be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub headers: Vec<(String, String)>,

    /// What to weigh by
    #[arg(long, value_name = "VIEW", value_enum, default_value_t)]
    pub view: ViewArg,

    /// Tell what each thread did at each site
    #[arg(long)]
    pub by_thread: bool,

    /// Leave out blocks younger than this at the end [default: as it was for attach]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub min_age: Option<Duration>,

    /// Only this process, where several were traced
    #[arg(long, value_name = "PID")]
    pub process: Option<u32>,

    /// How long an attempt may take
    #[arg(long, value_name = "TIME", value_parser = parse_interval, default_value = "10s")]
    pub timeout: Duration,

    /// How often to try again when the server cannot be reached, is busy or is down; after 0.5 s, then twice as long each time, up to 30 s
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(..=20))]
    pub retries: u32,
}

/// What is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PushFormat {
    /// To Pyroscope, Alloy and what else takes pprof as they do.
    #[default]
    Pprof,
    /// OpenTelemetry's profiles, to a collector.
    Otlp,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_divided_at_its_first_equals_sign() {
        let pair = parse_pair("Authorization=Basic YTpi==").unwrap();
        assert_eq!(pair, ("Authorization".to_owned(), "Basic YTpi==".to_owned()));
        assert_eq!(parse_pair("empty="), Ok(("empty".to_owned(), String::new())));
        assert!(parse_pair("=x").is_err() && parse_pair("x").is_err());
    }
}
