//! What one entry of the translation map says, and what is noted in it. The same rules as in the agent's translator, under
//! the same names.

use colo_ebpf::translation::{FlowEntry, KNOWN, NumberDelta, PENDING, TOLD, guest, peer};

use crate::window::{self, Window, u32_at};

/// How far beyond the guest's last TSval the peer may echo one, because this guest lags behind the primary: ticks.
const ECHO_SLACK: i32 = 1 << 20;

/// Whether `a` comes after `b` on the circle of 32-bit numbers.
#[inline(always)]
pub fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// What a SYN or SYN-ACK of the guest did.
pub enum Begun {
    /// It is said again, or its numbers tell nothing yet.
    Other,
    /// The delta is known now.
    Known,
    /// The connection that the entry was for is no more.
    Gone,
}

/// What bounds a timestamp echo toward the guest.
#[derive(Clone, Copy)]
pub struct EchoBounds {
    /// No echo below this, in the handshake.
    pub first: u32,
    pub has_first: bool,
    /// Nor below this, which the guest said lately, again.
    pub again: u32,
    pub has_again: bool,
    /// No echo above this.
    pub last: u32,
    pub has_last: bool,
}

/// Guest minus wire; of a former connection while the guest's output still belongs to it.
///
/// # Safety
/// Here and below: entry and window are valid, and the window has a segment of the entry's flow whose options were
/// looked through.
#[inline(always)]
pub unsafe fn total(entry: *mut FlowEntry) -> NumberDelta {
    // SAFETY: the caller vouches for it, here and below.
    unsafe {
        let (base, drift) = ((*entry).base, (*entry).drift);
        if (*entry).handshake == PENDING {
            return base;
        }
        NumberDelta { seq: base.seq.wrapping_add(drift.seq), ts: base.ts.wrapping_add(drift.ts) }
    }
}

/// The guest says a SYN or SYN-ACK: again, or of a new connection. Outside of the grace period nobody but the guest
/// answers for that one, and the entry is done with.
#[inline(always)]
pub unsafe fn begin(entry: *mut FlowEntry, window: *mut Window, in_grace: bool) -> Begun {
    // SAFETY: as above.
    unsafe {
        let flags = (*entry).guest_flags;
        let answers = (*window).flags & window::ACK != 0;
        if flags & (guest::OWN | guest::GONE) == guest::OWN && (*entry).own_isn == (*window).seq {
            if answers {
                (*entry).expects = (*window).ack;
                (*entry).guest_flags = flags | guest::EXPECTS;
            }
            return Begun::Other;
        }
        let was_told = (*entry).handshake == TOLD && flags & guest::GONE == 0;
        if !was_told && !in_grace {
            (*entry).guest_flags = flags | guest::GONE;
            return Begun::Gone;
        }
        let mut now = guest::OWN;
        (*entry).own_isn = (*window).seq;
        let timestamps = (*window).timestamps;
        if timestamps != 0 {
            let tsval = u32_at(window, timestamps);
            (*entry).own_tsval = tsval;
            (*entry).last_tsval = tsval;
            now |= guest::OWN_TSVAL | guest::LAST;
        }
        if answers {
            (*entry).expects = (*window).ack;
            now |= guest::EXPECTS;
        }
        if window::payload(window) != 0 {
            now |= guest::OWN_DATA;
        }
        (*entry).base = NumberDelta { seq: 0, ts: 0 };
        (*entry).drift = NumberDelta { seq: 0, ts: 0 };
        (*entry).peer_flags = 0;
        (*entry).guest_flags = now;
        if !was_told {
            (*entry).handshake = PENDING;
            return Begun::Other;
        }
        let told_tsval = flags & guest::TOLD_TSVAL != 0;
        (*entry).drift = drift(entry, (*entry).told_isn, (*entry).told_tsval, told_tsval);
        (*entry).handshake = KNOWN;
        Begun::Known
    }
}

/// Drift of a connection of which both guests' initial numbers are known. Equal ones mean that an epoch cut the handshake.
#[inline(always)]
unsafe fn drift(entry: *mut FlowEntry, isn: u32, tsval: u32, has_tsval: bool) -> NumberDelta {
    // SAFETY: as above.
    unsafe {
        let seq = (*entry).own_isn.wrapping_sub(isn);
        let both = has_tsval && (*entry).guest_flags & guest::OWN_TSVAL != 0;
        let ts = if both && seq != 0 { (*entry).own_tsval.wrapping_sub(tsval) } else { 0 };
        NumberDelta { seq, ts }
    }
}

/// Takes note of a segment of the guest, before it is edited.
#[inline(always)]
pub unsafe fn note_output(entry: *mut FlowEntry, window: *mut Window, now_ns: u64) {
    // SAFETY: as above.
    unsafe {
        (*entry).guest_seen_ns = now_ns;
        let flags = (*window).flags;
        let mut noted = (*entry).guest_flags;
        let timestamps = (*window).timestamps;
        let tsval = u32_at(window, timestamps);
        if timestamps != 0 && (noted & guest::LAST == 0 || is_after(tsval, (*entry).last_tsval)) {
            (*entry).last_tsval = tsval;
            noted |= guest::LAST;
        }
        if flags & window::SYN != 0 && flags & window::RST == 0 {
            (*entry).guest_flags = noted;
            return;
        }
        let end = window::end(window);
        if window::payload(window) != 0 {
            let said = noted & guest::SAID != 0;
            if said && timestamps != 0 && is_after((*entry).said, (*window).seq) {
                (*entry).again_from = (*window).seq;
                (*entry).again_tsval = tsval;
                noted |= guest::AGAIN;
            }
            if !said || is_after(end, (*entry).said) {
                (*entry).said = end;
                noted |= guest::SAID;
            }
        }
        if flags & window::RST == 0 && (*entry).handshake == KNOWN {
            noted |= guest::ESTABLISHED;
        }
        if flags & window::FIN != 0 {
            (*entry).guest_fin = end;
            noted |= guest::FIN;
        }
        if flags & window::ACK != 0 {
            let closes = (*entry).peer_flags & peer::FIN != 0 && (*entry).peer_fin == (*window).ack;
            noted = if closes { noted | guest::PEER_CLOSED } else { noted & !guest::PEER_CLOSED };
        }
        (*entry).guest_flags = noted;
    }
}

/// Whether a segment of the guest ends the connection. A bare RST during the handshake may answer an unacceptable
/// acknowledgement, after which the handshake goes on.
#[inline(always)]
pub unsafe fn resets(entry: *mut FlowEntry, window: *mut Window) -> bool {
    // SAFETY: as above.
    unsafe {
        (*window).flags & window::RST != 0
            && ((*window).flags & window::ACK != 0 || is_established(entry))
            && (*entry).handshake != TOLD
    }
}

#[inline(always)]
unsafe fn is_established(entry: *mut FlowEntry) -> bool {
    // SAFETY: as above.
    unsafe { (*entry).guest_flags & guest::ESTABLISHED != 0 || (*entry).peer_flags & peer::ESTABLISHED != 0 }
}

/// Tries to learn from a segment of the peer that acknowledges a pending handshake.
#[inline(always)]
pub unsafe fn learn_from_acknowledgement(entry: *mut FlowEntry, window: *mut Window) -> bool {
    // SAFETY: as above.
    unsafe {
        let noted = (*entry).guest_flags;
        if (*entry).handshake != PENDING || noted & (guest::OWN | guest::OWN_DATA) != guest::OWN {
            return false;
        }
        let (syn, rst) = ((*window).flags & window::SYN != 0, (*window).flags & window::RST != 0);
        let answers = if noted & guest::EXPECTS != 0 {
            // Passive open: the first segment after the peer's SYN, not an old duplicate.
            !syn && !rst && (*window).seq == (*entry).expects
        } else {
            // Active open: the server's SYN-ACK, or its refusal.
            syn || rst
        };
        if !answers {
            return false;
        }
        let timestamps = (*window).timestamps;
        let echo = if timestamps != 0 { u32_at(window, timestamps + 4) } else { 0 };
        (*entry).drift = drift(entry, (*window).ack.wrapping_sub(1), echo, echo != 0);
        (*entry).handshake = KNOWN;
        true
    }
}

/// Takes note of a segment toward the guest, before it is edited.
#[inline(always)]
pub unsafe fn note_input(entry: *mut FlowEntry, window: *mut Window, total: NumberDelta, now_ns: u64) {
    // SAFETY: as above.
    unsafe {
        (*entry).peer_seen_ns = now_ns;
        let noted = (*entry).guest_flags;
        let mut flags = (*entry).peer_flags;
        if (*window).flags & window::FIN != 0 && noted & guest::PEER_CLOSED == 0 {
            (*entry).peer_fin = window::end(window);
            flags |= peer::FIN;
        }
        let closes = noted & guest::FIN != 0 && (*entry).guest_fin == (*window).ack.wrapping_add(total.seq);
        flags = if closes { flags | peer::GUEST_CLOSED } else { flags & !peer::GUEST_CLOSED };
        // What the peer echoes it has got; but no more than the guest may come to say, or a forged echo would freeze the
        // clock that the peer sees.
        let timestamps = (*window).timestamps;
        let echo = u32_at(window, timestamps + 4);
        let ahead = echo.wrapping_add(total.ts).wrapping_sub((*entry).last_tsval).cast_signed();
        if timestamps != 0 && echo != 0 && noted & guest::LAST != 0 && ahead <= ECHO_SLACK {
            if flags & peer::FLOOR == 0 || is_after(echo, (*entry).peer_floor) {
                (*entry).peer_floor = echo;
                flags |= peer::FLOOR;
            }
        }
        (*entry).peer_flags = flags;
    }
}

/// Bounds of an echo toward the guest in a segment that acknowledges `ack`, guest space.
#[inline(always)]
pub unsafe fn echo_bounds(entry: *mut FlowEntry, ack: u32) -> EchoBounds {
    // SAFETY: as above.
    unsafe {
        let noted = (*entry).guest_flags;
        EchoBounds {
            first: (*entry).own_tsval,
            has_first: noted & guest::OWN_TSVAL != 0 && !is_established(entry),
            again: (*entry).again_tsval,
            has_again: noted & guest::AGAIN != 0 && is_after(ack, (*entry).again_from),
            last: (*entry).last_tsval,
            has_last: noted & guest::LAST != 0,
        }
    }
}

/// The lowest TSval that may go out, if there is one.
#[inline(always)]
pub unsafe fn floor(entry: *mut FlowEntry) -> (u32, bool) {
    // SAFETY: as above.
    unsafe {
        let (said, heard) = ((*entry).guest_floor, (*entry).peer_floor);
        let has_said = (*entry).guest_flags & guest::FLOOR != 0;
        let has_heard = (*entry).peer_flags & peer::FLOOR != 0;
        let higher = if has_said && !(has_heard && is_after(heard, said)) { said } else { heard };
        (higher, has_said || has_heard)
    }
}

/// A TSval that is about to go out.
#[inline(always)]
pub unsafe fn raise_guest_floor(entry: *mut FlowEntry, tsval: u32) {
    // SAFETY: as above.
    unsafe {
        if (*entry).guest_flags & guest::FLOOR == 0 || is_after(tsval, (*entry).guest_floor) {
            (*entry).guest_floor = tsval;
            (*entry).guest_flags |= guest::FLOOR;
        }
    }
}
