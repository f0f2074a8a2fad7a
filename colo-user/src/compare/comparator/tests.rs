//! Properties of whole conversations: two replicas of one stream, however cut, repeated and shuffled.

use super::super::DivergenceKind as Kind;
use super::super::rig::{Rig, tcp};
use crate::wire::build::Tcp;
use crate::wire::{Seq, TcpFlags};
use proptest::prelude::*;
use std::collections::HashSet;

/// How one replica says a stream: cuts, repeats and small disorder.
#[derive(Clone, Debug)]
struct Speech {
    cuts: Vec<usize>,
    repeats: Vec<usize>,
    swaps: Vec<usize>,
    /// Starts of pieces are pulled back by so much: overlapping retransmissions.
    overlap: usize,
}

fn speech() -> impl Strategy<Value = Speech> {
    (
        proptest::collection::vec(0usize..2000, 0..12),
        proptest::collection::vec(0usize..100, 0..5),
        proptest::collection::vec(0usize..100, 0..6),
        0usize..30,
    )
        .prop_map(|(cuts, repeats, swaps, overlap)| Speech { cuts, repeats, swaps, overlap })
}

impl Speech {
    /// The segments that say `stream`, which begins at `isn` + 1.
    fn of(&self, stream: &[u8], isn: u32, fin: bool) -> Vec<Tcp> {
        let mut cuts: Vec<usize> = self.cuts.iter().map(|c| c % (stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let mut segments: Vec<Tcp> = cuts
            .windows(2)
            .map(|w| {
                let from = w[0].saturating_sub(self.overlap);
                tcp().seq(isn.wrapping_add(1 + from as u32)).ack(9).data(&stream[from..w[1]])
            })
            .collect();
        if fin {
            segments.push(tcp().seq(isn.wrapping_add(1 + stream.len() as u32)).ack(9).flag(TcpFlags::FIN));
        }
        for (i, swap) in self.swaps.iter().enumerate() {
            let n = segments.len();
            if n > 1 {
                let at = (swap + i) % (n - 1);
                segments.swap(at, at + 1);
            }
        }
        for repeat in &self.repeats {
            if let Some(segment) = segments.get(repeat % segments.len().max(1)).cloned() {
                segments.push(segment);
            }
        }
        segments
    }
}

/// Both replicas speak, in turns by `order`; output commit is checked after each frame: no byte, no FIN has left that
/// the secondary has not said.
fn interleave(rig: &mut Rig, primary: &[Tcp], secondary: &[Tcp], order: &[bool]) {
    let mut said = HashSet::new();
    let (mut p, mut s) = (primary.iter(), secondary.iter());
    let mut checked = 0;
    let mut step = |rig: &mut Rig, first: bool| {
        if first {
            p.next().map(|segment| rig.p(&segment.frame()));
        } else if let Some(segment) = s.next() {
            said.extend(words(segment));
            rig.s(&segment.frame());
        }
        for &token in &rig.left[checked..] {
            let segment = &primary[token as usize];
            assert!(words(segment).all(|word| said.contains(&word)), "{segment:?} left too early");
        }
        checked = rig.left.len();
    };
    for &first in order.iter().cycle().take(2 * (primary.len() + secondary.len())) {
        step(rig, first);
    }
    (0..primary.len()).for_each(|_| step(rig, true));
    (0..secondary.len()).for_each(|_| step(rig, false));
}

/// What a segment says, byte by byte; the FIN is a word of its own.
fn words(segment: &Tcp) -> impl Iterator<Item = (u32, Option<u8>)> + '_ {
    let fin = segment.flags.has(TcpFlags::FIN).then_some(None);
    let bytes = segment.payload.iter().map(|b| Some(*b));
    bytes.chain(fin).enumerate().map(|(i, word)| ((segment.seq + i as u32).0, word))
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..2000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Two random segmentations, retransmissions and orderings of one stream never diverge, and every frame leaves.
    #[test]
    fn one_stream_said_in_two_ways_agrees(
        stream in stream(),
        (a, b) in (speech(), speech()),
        isn in any::<u32>(),
        fin in any::<bool>(),
        order in proptest::collection::vec(any::<bool>(), 1..20),
    ) {
        let mut rig = Rig::new();
        let (p, s) = (a.of(&stream, isn, fin), b.of(&stream, isn, fin));
        interleave(&mut rig, &p, &s, &order);
        prop_assert_eq!(&rig.asked, &[]);
        let mut left = rig.left.clone();
        left.sort_unstable();
        prop_assert_eq!(left, (0..p.len() as u64).collect::<Vec<_>>());
        rig.finish();
        prop_assert_eq!(&rig.asked, &[]);
        // Order: a frame overtakes only if all its bytes had left before.
        let end = |t: u64| p[t as usize].seq + p[t as usize].payload.len() as u32;
        for (i, &late) in rig.left.iter().enumerate() {
            for &early in &rig.left[..i] {
                if early > late {
                    let repeats = rig.left[..i]
                        .iter()
                        .take_while(|&&t| t != early)
                        .any(|&t| !end(early).after(end(t)));
                    prop_assert!(repeats, "frame {} left before {}: {:?}", early, late, rig.left);
                }
            }
        }
    }

    /// One changed byte always diverges; what holds it leaves only after a checkpoint, and then all of it, in order.
    #[test]
    fn one_changed_byte_always_diverges(
        stream in stream(),
        (a, b) in (speech(), speech()),
        isn in any::<u32>(),
        at in any::<proptest::sample::Index>(),
        order in proptest::collection::vec(any::<bool>(), 1..20),
    ) {
        let at = at.index(stream.len());
        let mut other = stream.clone();
        other[at] ^= 0x40;
        let mut rig = Rig::new();
        let (p, s) = (a.of(&stream, isn, false), b.of(&other, isn, false));
        interleave(&mut rig, &p, &s, &order);
        prop_assert_eq!(rig.kinds(), [Kind::Payload]);
        let d = rig.divergences()[0].clone();
        prop_assert_eq!(d.seq.unwrap() + d.offset.unwrap() as u32, Seq(isn) + 1 + at as u32);
        let holds = |t: u64| {
            let from = p[t as usize].seq.distance_from(Seq(isn) + 1) as usize;
            (from..from + p[t as usize].payload.len()).contains(&at)
        };
        prop_assert!(!rig.left.iter().any(|&t| holds(t)), "byte {} left: {:?}", at, rig.left);
        rig.pass(60_000);
        prop_assert!(!rig.left.iter().any(|&t| holds(t)));
        let before = rig.left.len();
        rig.checkpoint();
        prop_assert_eq!(rig.c.held(), 0);
        prop_assert!(rig.left[before..].is_sorted());
        // The next epoch is compared again.
        let next = isn.wrapping_add(1 + stream.len() as u32);
        rig.both(&tcp().seq(next).ack(9).data(b"agreed").frame());
        prop_assert_eq!((rig.c.held(), rig.asked.len()), (0, 1));
    }

    /// A byte that only one side says is found at the end, at the right place.
    #[test]
    fn what_one_side_never_said_is_found_at_the_end(
        stream in stream(),
        (a, b) in (speech(), speech()),
        isn in any::<u32>(),
        cut in any::<proptest::sample::Index>(),
        from_primary in any::<bool>(),
    ) {
        let at = cut.index(stream.len());
        let whole = a.of(&stream, isn, false);
        let short = b.of(&stream[..at], isn, false);
        prop_assume!(!short.is_empty());
        let mut rig = Rig::new();
        if from_primary {
            interleave(&mut rig, &short, &whole, &[true, false]);
        } else {
            interleave(&mut rig, &whole, &short, &[true, false]);
        }
        rig.finish();
        prop_assert_eq!(rig.kinds(), [if from_primary { Kind::Extra } else { Kind::Missing }]);
        prop_assert_eq!(rig.c.held() == 0, from_primary);
    }
}
