//! The colo agent as a library.
