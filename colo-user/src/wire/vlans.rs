//! The tags of a frame: VLAN tags of every type in use, and the SNAP header of an 802.3 frame.

use colo_ebpf::tags::{ID, MAX_TAGS, NO_TAG, SNAP_TAG, TAG_TYPES, TUNNEL, tag};
use std::fmt;

/// What stands between the addresses of a frame and its packet, outermost first: type and id of each VLAN tag, and whether a
/// SNAP header follows. At most [`MAX_TAGS`]. Priority bits are not part of it: a switch may change them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vlans([u16; MAX_TAGS]);

impl Vlans {
    /// No tag.
    pub const NONE: Self = Self([NO_TAG; MAX_TAGS]);

    /// 802.1Q behind 802.1ad tags, with these ids, outermost first.
    ///
    /// # Panics
    /// If there are more than [`MAX_TAGS`].
    #[must_use]
    pub fn stacked(ids: &[u16]) -> Self {
        let last = ids.len().saturating_sub(1);
        let outer = |at| TAG_TYPES[usize::from(at != last)];
        let tags: Vec<_> = ids.iter().enumerate().map(|(at, &id)| (outer(at), id)).collect();
        Self::of(&tags)
    }

    /// Tags of these types with these ids, outermost first.
    ///
    /// # Panics
    /// If there are more than [`MAX_TAGS`], or a type is of no tag.
    #[must_use]
    pub fn of(tags: &[(u16, u16)]) -> Self {
        let mut vlans = Self::NONE;
        for &(kind, id) in tags {
            assert!(vlans.push(tag(kind, id).expect("a type of a tag")), "at most {MAX_TAGS} tags");
        }
        vlans
    }

    /// The same, with a SNAP header behind the tags.
    ///
    /// # Panics
    /// If there are [`MAX_TAGS`] already.
    #[must_use]
    pub fn in_snap(mut self) -> Self {
        assert!(self.push(SNAP_TAG), "at most {MAX_TAGS} tags");
        self
    }

    /// Adds a word behind the others; false if there is no room.
    pub(super) fn push(&mut self, word: u16) -> bool {
        let free = self.0.iter_mut().find(|slot| **slot == NO_TAG);
        free.map(|slot| *slot = word).is_some()
    }

    /// The words of the tags, see [`colo_ebpf::tags`].
    #[must_use]
    pub fn words(&self) -> &[u16] {
        &self.0[..self.0.iter().position(|&word| word == NO_TAG).unwrap_or(MAX_TAGS)]
    }

    /// All words, with those of no tag behind the others.
    #[must_use]
    pub const fn slots(&self) -> [u16; MAX_TAGS] {
        self.0
    }

    /// The tags with these words, as [`Self::slots`] gave them.
    #[must_use]
    pub const fn from_slots(slots: [u16; MAX_TAGS]) -> Self {
        Self(slots)
    }

    /// The tags with these words. `Err`: the word that means nothing, or finds no room.
    pub fn from_words(words: impl IntoIterator<Item = u16>) -> Result<Self, u16> {
        let mut vlans = Self::NONE;
        for word in words {
            let is_tag = usize::from(word >> 12) < TAG_TYPES.len();
            let is_snap = word == SNAP_TAG || word == SNAP_TAG | u16::from(TUNNEL);
            let ends = vlans.snap().is_some();
            if ends || !(is_tag || is_snap) || !vlans.push(word) {
                return Err(word);
            }
        }
        Ok(vlans)
    }

    /// Type and id of each VLAN tag.
    pub fn tags(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let kind = |word: u16| TAG_TYPES.get(usize::from(word >> 12)).copied();
        self.words().iter().filter_map(move |&word| Some((kind(word)?, word & ID)))
    }

    /// The id of each VLAN tag.
    pub fn ids(&self) -> impl Iterator<Item = u16> + '_ {
        self.tags().map(|(_, id)| id)
    }

    /// The last byte of the organisation in the SNAP header, if there is one.
    #[must_use]
    pub fn snap(&self) -> Option<u8> {
        let last = self.words().last().copied().filter(|word| word & !ID == SNAP_TAG)?;
        // One byte was put there.
        Some((last & 0xff) as u8)
    }
}

impl fmt::Debug for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

/// Each with a space in front, and nothing where there is none. Types are named where they are not those of the standards.
impl fmt::Display for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let standard = &TAG_TYPES[..2];
        for (kind, id) in self.tags() {
            write!(f, " vlan {id}")?;
            if !standard.contains(&kind) {
                write!(f, " ({kind:#06x})")?;
            }
        }
        match self.snap() {
            None => Ok(()),
            Some(0) => write!(f, " in SNAP"),
            Some(_) => write!(f, " in a bridge tunnel"),
        }
    }
}
