//! The only readers of the operating system. Roots are parameters, so tests bring their own trees.

pub mod kernel;
pub mod procfs;
