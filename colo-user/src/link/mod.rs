//! Byte streams to other programs: where they are reached, and how what is said on them is framed.

pub mod chardev;
pub mod endpoint;
