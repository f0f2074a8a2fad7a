//! The mix of loads that the lab runs.

use std::time::Duration;

use super::{
    super::topology::{SERVER_V4, SERVER_V6},
    Load, Work,
};

/// All kinds of work over both IP versions, at once.
pub fn mix() -> Vec<Load> {
    let load = |name, server, work, workers| Load { name, server, work, workers, at_most: u64::MAX };
    let pause = Duration::from_millis(5);
    vec![
        load("download 4 MiB", SERVER_V4, Work::Download { length: 4 << 20, close: false }, 2),
        load("download 256 KiB, close", SERVER_V4, Work::Download { length: 256 << 10, close: true }, 2),
        load("download 4 MiB, IPv6", SERVER_V6, Work::Download { length: 4 << 20, close: false }, 1),
        load("upload 4 MiB", SERVER_V4, Work::Upload { length: 4 << 20 }, 1),
        load("upload 4 MiB, IPv6", SERVER_V6, Work::Upload { length: 4 << 20 }, 1),
        load("request/response 1 B", SERVER_V4, Work::Lines { length: 1, pause }, 2),
        load("request/response 1 KiB", SERVER_V6, Work::Lines { length: 1024, pause }, 2),
        load("idle keep-alive", SERVER_V4, Work::Lines { length: 1, pause: Duration::from_secs(3) }, 2),
        load("short connections", SERVER_V4, Work::Short { length: 1 }, 2),
        load("short connections, IPv6", SERVER_V6, Work::Short { length: 1024 }, 1),
        load("UDP 512 B", SERVER_V4, Work::Echo { length: 512 }, 1),
        load("UDP 8000 B, fragmented", SERVER_V4, Work::Echo { length: 8000 }, 1),
        load("UDP 8000 B, IPv6", SERVER_V6, Work::Echo { length: 8000 }, 1),
        load("ping", SERVER_V4, Work::Ping { length: 56 }, 1),
        load("ping, IPv6", SERVER_V6, Work::Ping { length: 1024 }, 1),
    ]
}
