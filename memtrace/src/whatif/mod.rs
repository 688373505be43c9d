//! What another allocator, or another setting, would have made of the same calls: pure. Events
//! become a [`program`] that `replay` makes under real allocators ([docs/whatif.md](docs/whatif.md)).

mod blocks;
mod compile;
pub mod program;
pub mod result;
mod seed;
mod survey;
#[cfg(test)]
mod testing;
mod threads;
mod turns;
pub mod variant;

pub use self::{
    compile::{Compiler, Oddities, Sampling},
    seed::{Seeded, seed},
    survey::Survey,
};
