//! The colo agent as a library.

pub mod mono;
pub mod wire;
