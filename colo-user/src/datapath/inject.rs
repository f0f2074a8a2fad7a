//! Input for the guest of the secondary, written into its interface.
//!
//! A tap takes every frame and drops in silence what its reader does not fetch in time. So frames go in by credit: at
//! most [`TAP_CREDIT`] that the reader has not fetched, as the tap's own counters tell. A veth has no such queue.

use std::io;

use super::counters::Counters;
use super::error::DatapathError;
use super::finish;
use super::interface::Interface;
use super::netlink::{Link, Netlink};
use super::packet::{PacketSocket, Sent};

/// Frames that may wait unread in the guest's tap, or half its queue if that is shorter.
pub const TAP_CREDIT: u32 = 256;

/// What became of an injected frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// The guest's interface has it.
    Sent,
    /// The guest does not keep up, or its interface is not there: try again later, in order.
    NoCredit,
    /// Longer than the guest interface's MTU allows, or shorter than an Ethernet header: it can never go in.
    TooLong,
}

#[derive(Debug)]
pub(super) struct Injector {
    /// None while the guest's interface is gone.
    socket: Option<PacketSocket>,
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
    /// Frames that we had put in before that.
    sent: u64,
    left: u64,
}

impl Injector {
    pub fn open(guest: &Interface) -> Result<Self, DatapathError> {
        let socket = Some(PacketSocket::open(guest, false)?);
        let mut injector = Self {
            socket,
            tap: None,
            finished: Vec::new(),
            completed: 0,
            sent: 0,
            no_credit: 0,
            too_long: 0,
        };
        injector.begin(&guest.start);
        Ok(injector)
    }

    /// The guest's interface is gone.
    pub fn let_go(&mut self) {
        (self.socket, self.tap) = (None, None);
    }

    /// There is another, if the one before was let go of.
    pub fn attach(&mut self, guest: &Interface) -> Result<(), DatapathError> {
        if self.socket.is_none() {
            self.socket = Some(PacketSocket::open(guest, false)?);
        }
        Ok(())
    }

    /// What lies in the queue of the interface, which stands so, is none of ours: credit begins anew.
    pub fn begin(&mut self, guest: &Link) {
        self.tap = guest.is_tap().then(|| TapCredit {
            index: guest.index,
            limit: u64::from(TAP_CREDIT.min(guest.tx_queue_len / 2).max(1)),
            base: guest.tx_packets + guest.tx_dropped,
            sent: self.sent,
            left: 0,
        });
    }

    pub fn inject(&mut self, frame: &[u8], netlink: &mut Netlink) -> io::Result<Injected> {
        let Some(socket) = &self.socket else {
            self.no_credit += 1;
            return Ok(Injected::NoCredit);
        };
        if let Some(tap) = &mut self.tap {
            if tap.left == 0 {
                tap.refresh(self.sent, netlink);
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
        Ok(match socket.send(frame)? {
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
    pub fn unread(&mut self, netlink: &mut Netlink) -> u64 {
        let Some(tap) = &mut self.tap else { return 0 };
        tap.refresh(self.sent, netlink);
        tap.limit - tap.left
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
    /// An interface that is gone takes nothing.
    fn refresh(&mut self, sent: u64, netlink: &mut Netlink) {
        let Ok(link) = netlink.link_by_index(self.index) else {
            self.left = 0;
            return;
        };
        let sent = sent - self.sent;
        let gone = (link.tx_packets + link.tx_dropped).saturating_sub(self.base);
        if gone > sent {
            // The host itself sent some: they are not ours to count.
            self.base += gone - sent;
        }
        self.left = self.limit.saturating_sub(sent - gone.min(sent));
    }
}
