//! One client that asks both VMs of the ceiling the same, and asks again once both have answered. What this costs is what output
//! commit costs by itself: nobody who compares can answer sooner, whatever carries the frames.

use std::{
    io::{self, Write as _},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::shadow::{consume, line, open};
use crate::{lab::replica::LINES, netns::Netns};

/// Asks both for lines of `length` bytes, the one VM from `first` and the other from `second`. Returns how long each pair of answers
/// took.
pub fn work(
    [first, second]: [&Netns; 2],
    server: IpAddr,
    length: u64,
    limit: Duration,
) -> io::Result<Vec<Duration>> {
    let mut streams = [first.enter(|| open(server, LINES))?, second.enter(|| open(server, LINES))?];
    let (request, begun) = (line(length), Instant::now());
    let mut took = Vec::new();
    while begun.elapsed() < limit {
        let asked = Instant::now();
        for stream in &mut streams {
            stream.write_all(request.as_bytes())?;
        }
        for stream in &mut streams {
            consume(stream, length + 1, &|| false)?;
        }
        took.push(asked.elapsed());
    }
    Ok(took)
}
