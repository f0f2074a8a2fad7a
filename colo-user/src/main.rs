//! The `colo` binary.

fn main() {}
