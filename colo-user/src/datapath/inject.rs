//! Input for the guest of the secondary, written into its interface.
//!
//! A tap takes every frame and drops in silence what its reader does not fetch in time. So frames go in by credit: at
//! most [`TAP_CREDIT`] that the reader has not fetched, as the tap's own counters tell. A veth has no such queue.

use std::io;

use super::counters::Counters;
use super::error::DatapathError;
use super::finish;
use super::interface::Interface;
use super::netlink::Netlink;
use super::packet::{PacketSocket, Sent};

/// Frames that may wait unread in the guest's tap, or half its queue if that is shorter.
pub const TAP_CREDIT: u32 = 256;

/// What became of an injected frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// The guest's interface has it.
    Sent,
    /// The guest does not keep up: try again later, in order.
    NoCredit,
    /// Longer than the guest interface's MTU allows, or shorter than an Ethernet header: it can never go in.
    TooLong,
}

#[derive(Debug)]
pub(super) struct Injector {
    socket: PacketSocket,
    tap: Option<TapCredit>,
    /// A frame while its checksum is completed.
    finished: Vec<u8>,
    completed: u64,
    sent: u64,
    no_credit: u64,
    too_long: u64,
}

#[derive(Debug)]
struct TapCredit {
    index: u32,
    limit: u64,
    /// Frames that left the queue, read or dropped, before the first of ours.
    base: u64,
    left: u64,
}

impl Injector {
    pub fn open(guest: &Interface) -> Result<Self, DatapathError> {
        let socket = PacketSocket::open(guest, false)?;
        let start = &guest.start;
        let tap = guest.is_tap().then(|| TapCredit {
            index: guest.index,
            limit: u64::from(TAP_CREDIT.min(start.tx_queue_len / 2).max(1)),
            base: start.tx_packets + start.tx_dropped,
            left: 0,
        });
        Ok(Self { socket, tap, finished: Vec::new(), completed: 0, sent: 0, no_credit: 0, too_long: 0 })
    }

    pub fn inject(&mut self, frame: &[u8], netlink: &mut Netlink) -> io::Result<Injected> {
        if let Some(tap) = &mut self.tap {
            if tap.left == 0 {
                tap.refresh(self.sent, netlink)?;
            }
            if tap.left == 0 {
                self.no_credit += 1;
                return Ok(Injected::NoCredit);
            }
        }
        // A copy taken where the sender's stack left the checksum to its NIC.
        let unfinished = finish::is_needed(frame);
        let frame = if unfinished {
            self.finished.clear();
            self.finished.extend_from_slice(frame);
            finish::checksum(&mut self.finished);
            &self.finished
        } else {
            frame
        };
        Ok(match self.socket.send(frame)? {
            Sent::Yes => {
                self.completed += u64::from(unfinished);
                self.sent += 1;
                if let Some(tap) = &mut self.tap {
                    tap.left -= 1;
                }
                Injected::Sent
            }
            Sent::NotNow => {
                self.no_credit += 1;
                Injected::NoCredit
            }
            Sent::Never => {
                self.too_long += 1;
                Injected::TooLong
            }
        })
    }

    /// Frames put in that the reader of a tap has not fetched; anything else has no queue of its own.
    pub fn unread(&mut self, netlink: &mut Netlink) -> io::Result<u64> {
        let Some(tap) = &mut self.tap else { return Ok(0) };
        tap.refresh(self.sent, netlink)?;
        Ok(tap.limit - tap.left)
    }

    /// Frames put into the guest's interface.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    pub fn count(&self, counters: &mut Counters) {
        counters.add("injected", self.sent, "Frames put into the guest's interface.");
        counters.add(
            "inject_completed",
            self.completed,
            "Injected frames whose unfinished checksum was completed.",
        );
        counters.add(
            "inject_no_credit",
            self.no_credit,
            "Times a frame had to wait because the guest did not keep up.",
        );
        counters.add(
            "inject_too_long",
            self.too_long,
            "Frames for the guest that its interface can never take.",
        );
    }
}

impl TapCredit {
    fn refresh(&mut self, sent: u64, netlink: &mut Netlink) -> io::Result<()> {
        let link = netlink.link_by_index(self.index)?;
        let gone = (link.tx_packets + link.tx_dropped).saturating_sub(self.base);
        if gone > sent {
            // The host itself sent some: they are not ours to count.
            self.base += gone - sent;
        }
        self.left = self.limit.saturating_sub(sent - gone.min(sent));
        Ok(())
    }
}
