//! Watching without anybody there, as far as it is decisions and data: which process to look at,
//! for how long, what to keep. What is done is in `session::watch` and `cmd::watch`.

pub mod aim;
pub mod keep;
pub mod pace;
pub mod readiness;
pub mod status;
pub mod window;
