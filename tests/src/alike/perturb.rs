//! The same sequence as two guests say it: with other identifications, windows and padding, at another pace, the speakers
//! mixed otherwise. And a sequence that is not the same any more.

use super::Timed;
use super::draw::Drawn;
use crate::captures;
use crate::random::Random;
use colo_user::compare::{Class, classify::classify};
use std::collections::HashMap;
use std::time::Duration;

/// Most that one guest is later than the other: less than the shortest wait of the default policy.
const SKEW: u64 = 7000;

/// What both guests say, each in the order of time.
pub struct Perturbed {
    /// The primary's guest.
    pub(super) primary: Vec<Timed>,
    /// The secondary's guest.
    pub(super) secondary: Vec<Timed>,
}

/// Both guests say `drawn`. Each speaker keeps its order.
#[must_use]
pub fn alike(drawn: &Drawn, random: &mut Random) -> Perturbed {
    let mut at = Duration::from_millis(50);
    let mut last: HashMap<usize, Duration> = HashMap::new();
    let (mut primary, mut secondary) = (Vec::new(), Vec::new());
    let pace = [0, 300, 3000][random.below(3) as usize];
    for (speaker, frame) in &drawn.frames {
        at += random.micros(0, pace + 1);
        primary.push(Timed { at, frame: frame.clone() });
        let later = at - Duration::from_micros(SKEW) + random.micros(0, 2 * SKEW);
        let later = last.get(speaker).map_or(later, |last| later.max(*last));
        last.insert(*speaker, later);
        secondary.push(Timed { at: later, frame: disguised(frame, random) });
    }
    secondary.sort_by_key(|timed| timed.at);
    Perturbed { primary, secondary }
}

/// What a router or another stack may change of a frame. What cannot be read is compared by its bytes and stays.
fn disguised(frame: &[u8], random: &mut Random) -> Vec<u8> {
    if classify(frame).class == Class::Malformed {
        return frame.to_vec();
    }
    let mut chance = captures::Random::new(random.next());
    captures::disguised(&[frame.to_vec()], &mut chance).remove(0)
}

/// The secondary says something else: a frame is missing, changed, said again, or comes at another time.
#[must_use]
pub(super) fn otherwise(mut secondary: Vec<Timed>, random: &mut Random) -> Vec<Timed> {
    for _ in 0..1 + random.below(3) {
        if secondary.is_empty() {
            break;
        }
        let at = random.below(secondary.len() as u64) as usize;
        match random.below(5) {
            0 | 1 => drop(secondary.remove(at)),
            2 => {
                let frame = &mut secondary[at].frame;
                if !frame.is_empty() {
                    let place = random.below(frame.len() as u64) as usize;
                    frame[place] ^= 1 << random.below(8);
                }
            }
            3 => {
                let other = random.below(secondary.len() as u64) as usize;
                let (a, b) = (secondary[at].at, secondary[other].at);
                (secondary[at].at, secondary[other].at) = (b, a);
            }
            _ => {
                let again =
                    Timed { at: secondary[at].at + random.micros(0, 40_000), ..secondary[at].clone() };
                secondary.push(again);
            }
        }
    }
    secondary.sort_by_key(|timed| timed.at);
    secondary
}
