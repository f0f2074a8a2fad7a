//! Translation on the direct path: the rules of the agent's translator after a takeover, applied to the entries that it
//! put into the map. What it would keep for later is dropped here, and said again by its sender.
//!
//! Two steps, so that a copy of the frame can be taken in between: [`output`] and [`input`] read the frame, take note of it
//! and edit its head in the window; [`edit::store`] puts that into the frame.

use aya_ebpf::{
    helpers::bpf_ktime_get_coarse_ns,
    macros::map,
    maps::{Array, HashMap},
    programs::XdpContext,
};
use colo_ebpf::{
    Counter,
    translation::{FlowEntry, FlowKey, KNOWN, MAX_FLOWS, PENDING, Translating, guest, peer},
};

use crate::{
    counters::count,
    edit,
    entry::{self, Begun},
    locate::{locate, located, options},
    window::{self, Window},
};

/// Entries take memory only once they are there.
const NO_PREALLOC: u32 = 1;
/// Do not replace an entry.
const NO_EXIST: u64 = 1;

#[map]
static TRANSLATIONS: HashMap<FlowKey, FlowEntry> = HashMap::with_max_entries(MAX_FLOWS, NO_PREALLOC);

#[map]
static TRANSLATING: Array<Translating> = Array::with_max_entries(1, 0);

/// What becomes of a frame.
pub enum Fate {
    /// It goes on as it is.
    AsIs,
    /// It goes on once the edited head is stored.
    Edited(*mut Window),
    /// It must not go on.
    Untranslatable,
}

/// A frame of the guest, from guest space to wire space.
#[inline(always)]
pub fn output(ctx: &XdpContext) -> Fate {
    let Some((translating, window)) = begin(ctx) else { return Fate::AsIs };
    let found = locate(window, true);
    if found == located::OTHER {
        return Fate::AsIs;
    }
    if found == located::BEYOND {
        return Fate::Untranslatable;
    }
    // SAFETY: the window is valid; so is an entry for the time of the program.
    unsafe {
        let segment = found == located::SEGMENT;
        let begins = segment && (*window).flags & (window::SYN | window::RST) == window::SYN;
        let known = TRANSLATIONS.get_ptr_mut(&(*window).key);
        if known.is_none() && !(begins && in_grace(translating)) {
            return Fate::AsIs;
        }
        if found != located::FRAGMENT {
            options(window);
        }
        let known = known.or_else(|| remember(window));
        let Some(entry) = known else { return Fate::AsIs };
        if !segment {
            return other(window, entry, found, true);
        }
        if begins {
            match entry::begin(entry, window, in_grace(translating)) {
                Begun::Known => count(Counter::TranslationLearned),
                Begun::Gone | Begun::Other => {}
            }
        }
        if (*entry).guest_flags & guest::GONE != 0 {
            return Fate::AsIs;
        }
        entry::note_output(entry, window, bpf_ktime_get_coarse_ns());
        let total = entry::total(entry);
        let resets = entry::resets(entry, window);
        if (*window).signed != 0 && !((*entry).handshake == KNOWN && total.seq | total.ts == 0) {
            return Fate::Untranslatable;
        }
        if (*entry).handshake == PENDING && !begins && (*window).flags & window::RST == 0 {
            return Fate::Untranslatable;
        }
        if resets {
            (*entry).guest_flags |= guest::GONE;
        }
        if total.seq | total.ts == 0 {
            return Fate::AsIs;
        }
        let (floor, has_floor) = entry::floor(entry);
        let said = edit::said(ctx, window, total, floor, has_floor);
        if said & edit::HAS_TSVAL != 0 {
            entry::raise_guest_floor(entry, said as u32);
        }
        if said & edit::RAISED != 0 {
            count(Counter::GuestTimestampRaised);
        }
        count(Counter::GuestTranslated);
        Fate::Edited(window)
    }
}

/// A frame toward the guest, from wire space to guest space.
#[inline(always)]
pub fn input(ctx: &XdpContext) -> Fate {
    let Some((_, window)) = begin(ctx) else { return Fate::AsIs };
    let found = locate(window, false);
    if found == located::OTHER {
        return Fate::AsIs;
    }
    if found == located::BEYOND {
        return Fate::Untranslatable;
    }
    // SAFETY: as above.
    unsafe {
        let Some(entry) = TRANSLATIONS.get_ptr_mut(&(*window).key) else { return Fate::AsIs };
        if found != located::FRAGMENT {
            options(window);
        }
        if found != located::SEGMENT {
            return other(window, entry, found, false);
        }
        if (*window).flags & window::ACK == 0 || (*entry).guest_flags & guest::GONE != 0 {
            return Fate::AsIs;
        }
        if entry::learn_from_acknowledgement(entry, window) {
            count(Counter::TranslationLearned);
        }
        let total = entry::total(entry);
        let known = (*entry).handshake == KNOWN;
        if !known || (*window).signed != 0 && total.seq | total.ts != 0 {
            return Fate::Untranslatable;
        }
        entry::note_input(entry, window, total, bpf_ktime_get_coarse_ns());
        let bounds = entry::echo_bounds(entry, (*window).ack.wrapping_add(total.seq));
        if (*window).flags & window::RST == 0 {
            (*entry).peer_flags |= peer::ESTABLISHED;
        }
        if total.seq | total.ts == 0 && !bounds.has_again {
            return Fate::AsIs;
        }
        edit::heard(ctx, window, total, bounds);
        count(Counter::UplinkTranslated);
        Fate::Edited(window)
    }
}

/// The head of the frame, if anything is translated at all.
#[inline(always)]
fn begin(ctx: &XdpContext) -> Option<(&'static Translating, *mut Window)> {
    let translating = TRANSLATING.get(0)?;
    if translating.active == 0 {
        return None;
    }
    Some((translating, Window::load(ctx)?))
}

#[inline(always)]
fn in_grace(translating: &Translating) -> bool {
    // SAFETY: the helper takes nothing and only returns a number.
    unsafe { bpf_ktime_get_coarse_ns() <= translating.grace_end_ns }
}

/// Makes the entry of a handshake that the guest begins just after the takeover: the peer may have the primary's numbers.
///
/// # Safety
/// The window is valid and has a SYN or SYN-ACK of a flow without an entry, whose options were looked through.
#[inline(always)]
unsafe fn remember(window: *mut Window) -> Option<*mut FlowEntry> {
    // SAFETY: the caller vouches for the window.
    unsafe {
        let fresh = &raw mut (*window).fresh;
        *fresh = FlowEntry::default();
        (*fresh).guest_flags = guest::GONE;
        entry::begin(fresh, window, true);
        if TRANSLATIONS.insert(&(*window).key, &*fresh, NO_EXIST).is_err() {
            count(Counter::TranslationFull);
        }
        TRANSLATIONS.get_ptr_mut(&(*window).key)
    }
}

/// A first fragment, or an ICMP error, of the flow of `entry`.
///
/// # Safety
/// Window and entry are valid.
#[inline(always)]
unsafe fn other(window: *mut Window, entry: *mut FlowEntry, found: u64, from_guest: bool) -> Fate {
    // SAFETY: the caller vouches for both.
    unsafe {
        if (*entry).guest_flags & guest::GONE != 0 {
            return Fate::AsIs;
        }
        if (*entry).handshake != KNOWN {
            return Fate::Untranslatable;
        }
        let total = entry::total(entry);
        if total.seq | total.ts == 0 {
            return Fate::AsIs;
        }
        // One fragment cannot be translated without the others: its checksum may lie in any of them.
        if found == located::FRAGMENT {
            return Fate::Untranslatable;
        }
        if from_guest && (*window).flags & window::ACK == 0 {
            return Fate::AsIs;
        }
        if from_guest {
            edit::quoted_heard(window, total);
            count(Counter::GuestTranslated);
        } else {
            edit::quoted_said(window, total);
            count(Counter::UplinkTranslated);
        }
        Fate::Edited(window)
    }
}
