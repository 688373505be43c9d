//! Probes: where they go (`plan` and what it needs, pure), that the place is still right
//! (`verify`), and the kernel that holds them (`load`, `multi`, `ring`: the only aya).

pub mod calibrate;
pub mod calls;
pub mod error;
pub mod growth;
pub mod load;
mod load_order;
pub mod loader;
pub mod multi;
pub mod oom;
pub mod plan;
pub mod pymalloc;
pub mod ring;
pub mod side;
pub mod site;
pub mod target;
pub mod verify;
