//! A report on its way to the engine that a fleet already has: pprof to Pyroscope and what is
//! compatible with it, OpenTelemetry profiles to a collector ([docs/push.md](../../../docs/push.md)).
//!
//! `message` and `backoff` are pure; `send` is the only part that talks to the network.

mod backoff;
mod endpoint;
mod message;
mod otlp;
mod pyroscope;
mod send;

pub use self::{
    endpoint::{Endpoint, EndpointError, Protocol},
    message::{Label, Message, message},
    send::{PushError, Receipt, Sending, send},
};
