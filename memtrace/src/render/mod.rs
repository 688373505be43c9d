//! Reports for people and programs. Renderers compute nothing and touch no file: they write what
//! the [`crate::report::Report`] (or the [`crate::doctor::Diagnosis`]) says.

pub mod cost;
pub mod diff;
mod estimate;
pub mod flamegraph;
pub mod folded;
pub mod html;
pub mod json;
mod label;
pub mod otlp;
pub mod pprof;
mod profile;
pub mod speedscope;
pub mod text;
pub mod timeline;

#[cfg(test)]
mod golden;

pub(crate) use self::label::clean;
