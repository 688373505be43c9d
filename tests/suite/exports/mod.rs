//! The exports, as the tools that they are for read them.

mod otlp;
mod pprof;
mod sample;
mod speedscope;
