//! The only readers of the operating system. Roots are parameters, so tests bring their own trees.

pub mod available;
pub mod btf;
pub mod cgroup;
pub mod clock;
pub mod facilities;
pub mod huge_pages;
pub mod instructions;
pub mod kernel;
pub mod launch;
pub mod mapped;
pub mod memory;
pub mod pagemap;
pub mod pidfd;
pub mod preflight;
pub mod preserve;
pub mod pressure;
pub mod priority;
pub mod procfs;
pub mod relay;
pub mod signals;
