//! Harness of the tests that need a real kernel: network namespaces, veth pairs and taps; captures of real exchanges.

pub mod alike;
pub mod awd;
pub mod bench;
pub mod captures;
pub mod diff;
pub mod ends;
pub mod etcd;
pub mod files;
pub mod lab;
pub mod loaded;
pub mod mounts;
pub mod netns;
pub mod oracle;
pub mod pair;
pub mod random;
pub mod raw;
pub mod samples;
pub mod sim;
pub mod stranger;
pub mod tap;
pub mod traced;
pub mod unread;
