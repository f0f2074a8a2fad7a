//! Harness of the tests that need a real kernel: network namespaces, veth pairs and taps.

pub mod ends;
pub mod lab;
pub mod netns;
pub mod raw;
pub mod tap;
