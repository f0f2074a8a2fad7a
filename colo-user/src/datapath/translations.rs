//! The translation map: written from what the translator in user space knows, applied and kept up to date by the programs,
//! looked through for flows that are over.

use std::os::fd::AsFd as _;

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapError};
use colo_ebpf::tags::MAX_TAGS;
use colo_ebpf::translation::{
    self, FAMILY_V4, FAMILY_V6, FlowEntry, FlowKey, NumberDelta, Translating, guest, peer,
};
use colo_ebpf::{MAP_TRANSLATING, MAP_TRANSLATIONS};

use super::Datapath;
use super::bpf::read_batch;
use super::error::DatapathError;
use super::programs::{Programs, map_error, missing};
use crate::mono::Mono;
use crate::translate::limits::{MSL, TAKEOVER_GRACE, ZERO_IDLE};
use crate::translate::{Base, Delta, EntryView, Flow, Handshake};
use crate::wire::{IpFamily, Vlans};

/// Entries read at a time, and most that one [`Datapath::forget_closed`] looks at: a fraction of a millisecond.
pub const JANITOR_BATCH: usize = 4096;

/// How long an entry that the guest has done with stays, for programs that are just looking at it.
const GONE_GRACE_NS: u64 = 1_000_000_000;

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Key(FlowKey);

// SAFETY: `FlowKey` is `repr(C)`, of integers only, without padding (a test of its crate says so).
unsafe impl Pod for Key {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value(FlowEntry);

// SAFETY: as above.
unsafe impl Pod for Value {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct State(Translating);

// SAFETY: as above.
unsafe impl Pod for State {}

type Entries = Vec<(FlowKey, FlowEntry)>;

/// How far the janitor has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Janitor {
    place: Option<u32>,
    /// Entries seen in this round.
    live: usize,
    forgotten: u64,
}

impl Datapath {
    /// Makes the programs translate these flows, and no others, in the modes pass and protect. What is not to be
    /// translated is left out. From now on and for [`TAKEOVER_GRACE`] the programs also learn the delta of handshakes
    /// that the guest begins: call it when this host takes over, before [`Self::set_mode`].
    ///
    /// # Errors
    /// The kernel's reason: the map takes [`MAX_FLOWS`](translation::MAX_FLOWS), memory may end before.
    pub fn set_translations(
        &mut self,
        entries: impl IntoIterator<Item = EntryView>,
    ) -> Result<(), DatapathError> {
        self.janitor = Janitor { forgotten: self.janitor.forgotten, ..Janitor::default() };
        self.programs.set_translations(Mono::now(), entries)
    }

    /// The translation of every live connection that has one, the drift that the kernel learned included: what a new
    /// secondary is told at each cut.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn translations(&self) -> Result<Vec<Base>, DatapathError> {
        self.programs.translations()
    }

    /// Forgets connections that are closed both ways for 2 MSL, that the guest has reset, or that need no translation and
    /// were idle for [`ZERO_IDLE`]; never one with a delta for being idle. Looks at [`JANITOR_BATCH`] entries and goes on there
    /// at the next call: about once a second. Returns how many are gone.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn forget_closed(&mut self, now: Mono) -> Result<usize, DatapathError> {
        let mut janitor = self.janitor;
        let forgotten = self.programs.forget_closed(now, &mut janitor);
        self.janitor = janitor;
        forgotten
    }
}

impl Janitor {
    /// Entries forgotten since the start.
    pub fn forgotten(self) -> u64 {
        self.forgotten
    }
}

impl Programs {
    /// See [`Datapath::set_translations`].
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn set_translations(
        &mut self,
        now: Mono,
        entries: impl IntoIterator<Item = EntryView>,
    ) -> Result<(), DatapathError> {
        let old: Vec<_> = self.entries()?.into_iter().map(|(key, _)| key).collect();
        let mut written = std::collections::HashSet::new();
        let mut map: HashMap<_, Key, Value> = self.map_mut(MAP_TRANSLATIONS)?;
        for view in entries.into_iter().filter(is_needed) {
            let key = key_of(&view.flow);
            map.insert(Key(key), Value(entry_of(now, &view)), 0)
                .map_err(|error| map_error(MAP_TRANSLATIONS, &error))?;
            written.insert(view.flow);
        }
        for key in old.into_iter().filter(|key| !written.contains(&flow_of(key))) {
            remove(&mut map, key)?;
        }
        self.set_translating(Translating {
            grace_end_ns: (now + TAKEOVER_GRACE).as_nanos(),
            active: 1,
            reserved: 0,
        })
    }

    /// See [`Datapath::translations`].
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn translations(&self) -> Result<Vec<Base>, DatapathError> {
        let bases =
            self.entries()?.into_iter().filter(|(_, entry)| is_live(entry)).map(|(key, entry)| Base {
                flow: flow_of(&key),
                delta: total(&entry),
                guest_isn: (entry.guest_flags & guest::OWN != 0).then_some(entry.own_isn),
            });
        Ok(bases.filter(|base| base.delta != Delta::ZERO).collect())
    }

    /// The entry of a flow as the programs have it.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn translation(&self, flow: &Flow) -> Result<Option<FlowEntry>, DatapathError> {
        let map = self.map(MAP_TRANSLATIONS)?;
        let map: HashMap<_, Key, Value> =
            HashMap::try_from(map).map_err(|error| map_error(MAP_TRANSLATIONS, &error))?;
        match map.get(&Key(key_of(flow)), 0) {
            Ok(Value(entry)) => Ok(Some(entry)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(map_error(MAP_TRANSLATIONS, &error)),
        }
    }

    fn forget_closed(&mut self, now: Mono, janitor: &mut Janitor) -> Result<usize, DatapathError> {
        let translating = self.translating()?;
        if translating.active == 0 {
            return Ok(0);
        }
        let (entries, next) = self.read_some(janitor.place)?;
        let mut map: HashMap<_, Key, Value> = self.map_mut(MAP_TRANSLATIONS)?;
        let mut forgotten = 0;
        for (key, entry) in &entries {
            if is_over(now, entry) {
                remove(&mut map, *key)?;
                forgotten += 1;
            }
        }
        janitor.live += entries.len() - forgotten;
        janitor.forgotten += forgotten as u64;
        janitor.place = next;
        if next.is_none() {
            // Handshakes may enter during the grace period, and those that did are in the next round.
            let settled = now.as_nanos() > translating.grace_end_ns + GONE_GRACE_NS;
            if janitor.live == 0 && settled && self.entries()?.is_empty() {
                self.set_translating(Translating { active: 0, ..translating })?;
            }
            janitor.live = 0;
        }
        Ok(forgotten)
    }

    fn translating(&self) -> Result<Translating, DatapathError> {
        let map = self.map(MAP_TRANSLATING)?;
        let map = Array::<_, State>::try_from(map).map_err(|error| map_error(MAP_TRANSLATING, &error))?;
        map.get(&0, 0).map(|state| state.0).map_err(|error| map_error(MAP_TRANSLATING, &error))
    }

    fn set_translating(&mut self, translating: Translating) -> Result<(), DatapathError> {
        let mut map: Array<_, State> = self.map_mut(MAP_TRANSLATING)?;
        map.set(0, State(translating), 0).map_err(|error| map_error(MAP_TRANSLATING, &error))
    }

    fn entries(&self) -> Result<Entries, DatapathError> {
        let mut all = Vec::new();
        let mut place = None;
        loop {
            let (some, next) = self.read_some(place)?;
            all.extend(some);
            if next.is_none() {
                return Ok(all);
            }
            place = next;
        }
    }

    /// At most [`JANITOR_BATCH`] entries, and where to go on.
    fn read_some(&self, place: Option<u32>) -> Result<(Entries, Option<u32>), DatapathError> {
        let Map::HashMap(map) = self.map(MAP_TRANSLATIONS)? else { return Err(missing(MAP_TRANSLATIONS)) };
        let mut keys = vec![EMPTY_KEY; JANITOR_BATCH];
        let mut values = vec![FlowEntry::default(); JANITOR_BATCH];
        // SAFETY: keys and values of the map are these types, which are of integers only.
        let read = unsafe { read_batch(map.fd().as_fd(), place, &mut keys, &mut values) };
        let (read, next) = read.map_err(|error| map_error(MAP_TRANSLATIONS, &error))?;
        Ok((keys.into_iter().zip(values).take(read).collect(), next))
    }
}

/// Removes an entry that may be gone already.
fn remove(map: &mut HashMap<&mut aya::maps::MapData, Key, Value>, key: FlowKey) -> Result<(), DatapathError> {
    match map.remove(&Key(key)) {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(error) => Err(map_error(MAP_TRANSLATIONS, &error)),
    }
}

const EMPTY_KEY: FlowKey = FlowKey {
    guest: [0; 16],
    peer: [0; 16],
    guest_port: 0,
    peer_port: 0,
    vlans: [0; MAX_TAGS],
    family: 0,
    reserved: 0,
};

fn key_of(flow: &Flow) -> FlowKey {
    let family = match flow.family {
        IpFamily::V4 => FAMILY_V4,
        IpFamily::V6 => FAMILY_V6,
    };
    let Flow { guest, peer, guest_port, peer_port, vlans, .. } = *flow;
    FlowKey { guest, peer, guest_port, peer_port, vlans: vlans.slots(), family, reserved: 0 }
}

fn flow_of(key: &FlowKey) -> Flow {
    let FlowKey { guest, peer, guest_port, peer_port, vlans, family, .. } = *key;
    let family = if family == FAMILY_V4 { IpFamily::V4 } else { IpFamily::V6 };
    Flow { family, vlans: Vlans::from_slots(vlans), guest, peer, guest_port, peer_port }
}

/// Whether anything may have to be changed in the flow's segments.
fn is_needed(view: &EntryView) -> bool {
    view.handshake != Handshake::Known
        || view.base + view.drift != Delta::ZERO
        || view.progress.again.is_some()
}

fn entry_of(now: Mono, view: &EntryView) -> FlowEntry {
    let number = |delta: Delta| NumberDelta { seq: delta.seq, ts: delta.ts };
    let progress = &view.progress;
    let mut flags = 0;
    let mut note = |value: Option<u32>, flag| {
        flags |= if value.is_some() { flag } else { 0 };
        value.unwrap_or(0)
    };
    let own = progress.own;
    let (handshake, told_isn, told) = match view.handshake {
        Handshake::Known => (translation::KNOWN, 0, None),
        Handshake::Pending { .. } => (translation::PENDING, 0, None),
        Handshake::Told { isn, tsval } => (translation::TOLD, isn, Some(tsval).filter(|&tsval| tsval != 0)),
    };
    let mut entry = FlowEntry {
        guest_seen_ns: now.as_nanos(),
        peer_seen_ns: now.as_nanos(),
        base: number(view.base),
        drift: number(view.drift),
        handshake,
        guest_flags: 0,
        peer_flags: 0,
        own_isn: note(own.map(|own| own.isn), guest::OWN),
        own_tsval: note(own.and_then(|own| own.tsval), guest::OWN_TSVAL),
        expects: note(own.and_then(|own| own.expects), guest::EXPECTS),
        told_isn,
        told_tsval: note(told, guest::TOLD_TSVAL),
        last_tsval: note(progress.last_tsval, guest::LAST),
        guest_floor: note(progress.floor, guest::FLOOR),
        peer_floor: 0,
        said: note(progress.said, guest::SAID),
        again_from: note(progress.again.map(|(from, _)| from), guest::AGAIN),
        again_tsval: note(progress.again.map(|(_, tsval)| tsval), guest::AGAIN),
        guest_fin: note(progress.guest_fin, guest::FIN),
        peer_fin: 0,
    };
    for (is_so, flag) in [
        (own.is_some_and(|own| own.data), guest::OWN_DATA),
        (progress.established, guest::ESTABLISHED),
        (progress.peer_closed, guest::PEER_CLOSED),
    ] {
        flags |= if is_so { flag } else { 0 };
    }
    entry.guest_flags = flags;
    if let Some(fin) = progress.peer_fin {
        (entry.peer_fin, entry.peer_flags) = (fin, peer::FIN);
    }
    entry.peer_flags |= if progress.guest_closed { peer::GUEST_CLOSED } else { 0 };
    entry
}

fn total(entry: &FlowEntry) -> Delta {
    let delta = |number: NumberDelta| Delta { seq: number.seq, ts: number.ts };
    delta(entry.base) + delta(entry.drift)
}

fn is_live(entry: &FlowEntry) -> bool {
    entry.handshake == translation::KNOWN && entry.guest_flags & guest::GONE == 0
}

/// Whether the programs need the entry no more.
fn is_over(now: Mono, entry: &FlowEntry) -> bool {
    let idle = now.saturating_since(Mono::from_nanos(entry.guest_seen_ns.max(entry.peer_seen_ns)));
    if entry.guest_flags & guest::GONE != 0 {
        return idle.as_nanos() >= u128::from(GONE_GRACE_NS);
    }
    let closed = entry.guest_flags & guest::PEER_CLOSED != 0 && entry.peer_flags & peer::GUEST_CLOSED != 0;
    entry.handshake == translation::KNOWN
        && (closed && idle >= 2 * MSL || total(entry) == Delta::ZERO && idle >= ZERO_IDLE)
}
