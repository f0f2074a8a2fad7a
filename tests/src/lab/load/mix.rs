//! The mix of loads that the lab runs.

use std::time::Duration;

use super::{
    super::topology::{SERVER_V4, SERVER_V6},
    Load, Work,
};

/// All kinds of work over both IP versions, at once. What is small pauses, or it would be most of the traffic.
pub fn mix() -> Vec<Load> {
    let bulk =
        |name, server, work, workers| Load { workers, at_most: u64::MAX, ..Load::once(name, server, work) };
    let paced = |name, server, work, workers, pause| Load {
        pause: Duration::from_millis(pause),
        ..bulk(name, server, work, workers)
    };
    vec![
        bulk("download 4 MiB", SERVER_V4, Work::Download { length: 4 << 20, close: false }, 2),
        bulk("download 256 KiB, close", SERVER_V4, Work::Download { length: 256 << 10, close: true }, 2),
        bulk("download 4 MiB, IPv6", SERVER_V6, Work::Download { length: 4 << 20, close: false }, 1),
        bulk("upload 4 MiB", SERVER_V4, Work::Upload { length: 4 << 20 }, 1),
        bulk("upload 4 MiB, IPv6", SERVER_V6, Work::Upload { length: 4 << 20 }, 1),
        paced("request/response 1 B", SERVER_V4, Work::Lines { length: 1 }, 2, 5),
        paced("request/response 1 KiB", SERVER_V6, Work::Lines { length: 1024 }, 2, 5),
        paced("idle keep-alive", SERVER_V4, Work::Lines { length: 1 }, 2, 3000),
        paced("short connections", SERVER_V4, Work::Short { length: 1 }, 2, 1),
        paced("short connections, IPv6", SERVER_V6, Work::Short { length: 1024 }, 1, 1),
        paced("UDP 512 B", SERVER_V4, Work::Echo { length: 512 }, 1, 5),
        paced("UDP 8000 B, fragmented", SERVER_V4, Work::Echo { length: 8000 }, 1, 5),
        paced("UDP 8000 B, IPv6", SERVER_V6, Work::Echo { length: 8000 }, 1, 5),
        paced("ping", SERVER_V4, Work::Ping { length: 56 }, 1, 20),
        paced("ping, IPv6", SERVER_V6, Work::Ping { length: 1024 }, 1, 20),
    ]
}
