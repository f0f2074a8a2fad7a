//! What is counted: how much room there is, what was lost, and everything by name.

use colo_ebpf::Counter;

use super::Datapath;
use super::counters::Counters;
use crate::path::Side;

/// Below this share of free buffers frames are scarce.
const SCARCE_SHARE: u32 = 4;

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// Buffers in all.
    pub total: u32,
    /// Buffers that a captured frame can go to.
    pub free: u32,
    /// Buffers with a parked frame.
    pub held: u32,
    /// Buffers with a frame on its way out.
    pub sending: u32,
    /// Less than a quarter is free: time to ask for a checkpoint, before a frame is lost.
    pub scarce: bool,
    /// Frames of the guest that were lost since the start, for whatever reason: each makes a checkpoint necessary. The
    /// counters `guest_*` and `hold_lost` tell the reason. Those that left uncompared, without the agent, count as well.
    pub lost: u64,
    /// Copies of client frames that found no room: the secondary lacks that input.
    pub mirror_lost: u64,
}

/// What the kernel's counters said last about lost frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ToldLosses {
    pub guest: u64,
    pub mirror: u64,
}

/// What the agent's side counts itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Own {
    pub captured: u64,
    pub released: u64,
    pub discarded: u64,
    pub stale: u64,
    pub completed: u64,
    pub abandoned: u64,
    pub emitted: u64,
    pub emit_no_room: u64,
    pub mirrored: u64,
    pub mirrored_unfinished: u64,
}

impl Datapath {
    /// How much room there is, and what was lost. What the kernel alone knows of is read at every [`Self::wait`], at
    /// most ten times a second.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let occupancy = self.hold.occupancy();
        let free = occupancy.free + occupancy.filling;
        let total = free + occupancy.held + occupancy.sending;
        Pressure {
            total,
            free,
            held: occupancy.held,
            sending: occupancy.sending,
            scarce: free < total / SCARCE_SHARE,
            lost: self.told.guest,
            mirror_lost: self.told.mirror.max(self.mirror_gaps.lost()),
        }
    }

    pub(super) fn read_losses(&mut self) {
        // A frame that the socket or the ring could not take was seen by the hold as well: not summed.
        let counter = |counter| self.programs.counter(counter).unwrap_or(0);
        let refused = counter(Counter::GuestHoldTooLong)
            + counter(Counter::GuestHoldNoSocket)
            + counter(Counter::GuestHoldNoRoom)
            + counter(Counter::GuestUntranslatable)
            + counter(Counter::GuestDeadmanClosed)
            + counter(Counter::GuestDeadmanOpened)
            + counter(Counter::GuestLeaseOver);
        let no_room = self.hold.lost().max(counter(Counter::GuestHoldRingFull));
        self.told.guest = self.told.guest.max(refused + no_room);
        self.told.mirror = counter(Counter::UplinkMirrorLost);
    }

    /// All counters since the start.
    #[must_use]
    pub fn counters(&mut self) -> Counters {
        let mut counters = Counters::default();
        for counter in Counter::ALL {
            counters.add(counter.name(), self.programs.counter(counter).unwrap_or(0), counter.help());
        }
        let own = self.own;
        counters.add("captured", own.captured, "Guest frames parked by the agent.");
        counters.add("released", own.released, "Parked frames released onto the uplink.");
        counters.add("discarded", own.discarded, "Parked frames dropped by the agent.");
        counters.add(
            "stale_frame",
            own.stale,
            "Releases or discards of a frame that was not parked: a fault of the agent.",
        );
        counters.add(
            "checksum_completed",
            own.completed,
            "Released frames whose unfinished checksum was completed.",
        );
        counters.add(
            "abandoned",
            own.abandoned,
            "Released frames that the uplink had not taken when this side was closed or ended: they never leave.",
        );
        counters.add("emitted", own.emitted, "Frames of the agent's own put onto the uplink.");
        counters.add("emit_no_room", own.emit_no_room, "Frames of the agent's own that found no room.");
        counters.add("mirrored", own.mirrored, "Copies of client frames read by the agent.");
        counters.add(
            "mirror_unfinished",
            own.mirrored_unfinished,
            "Client frames that came with an unfinished checksum: natively redirected, the guest drops them.",
        );
        counters.add(
            "mirror_gaps",
            self.mirror_gaps.lost(),
            "Numbers missing between the copies of client frames.",
        );
        counters.add(
            "translations_forgotten",
            self.janitor.forgotten(),
            "Flows taken out of the translation map: closed, reset by the guest, or idle and without a delta.",
        );
        self.hold.count(&mut counters);
        self.injector.count(&mut counters);
        for (interface, name, help) in [
            (
                &mut self.guest,
                "guest_tx_dropped",
                "Frames dropped by the guest's interface, as it counts them.",
            ),
            (&mut self.uplink, "uplink_tx_dropped", "Frames dropped by the uplink, as it counts them."),
        ] {
            let link = self.netlink.link_by_index(interface.index).ok();
            counters.add(name, interface.dropped(link.as_ref()), help);
        }
        let (guest, uplink) = (self.paths.of(Side::Guest), self.paths.of(Side::Uplink));
        counters.add("guest_lost", guest.lost, "Times that the guest's interface carried nothing.");
        counters.add("guest_restored", guest.restored, "Times that it was attached or opened again.");
        counters.add("uplink_lost", uplink.lost, "Times that the uplink carried nothing.");
        counters.add("uplink_restored", uplink.restored, "Times that it was attached or opened again.");
        counters.add(
            "interface_news_missed",
            self.watch.missed(),
            "Times that the kernel had more to tell of interfaces than there was room for: all was looked at again.",
        );
        counters
    }
}
