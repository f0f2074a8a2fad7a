//! Two guests in lockstep, a client, and the translator between: whatever they say, the secondary's stream comes out
//! as the primary's bytes, and the client's goes in as if it had spoken to the secondary all along.

use super::super::{Learned, Limits, Outcome, Translator, initial_of};
use super::frames::{ACK, Net, SYN, SYN_ACK, Tcp, at};
use proptest::collection::vec;
use proptest::prelude::*;

/// Random numbers of one guest.
#[derive(Clone, Copy, Debug)]
struct Guest {
    isn: u32,
    ts: u32,
}

/// One step of a connection. Offsets are from the guest's initial number.
#[derive(Clone, Debug)]
enum Step {
    /// The guest sends, possibly again.
    Output { offset: u32, payload: Vec<u8>, pad: usize, timestamps: bool },
    /// The client acknowledges, echoing the guest's last TSval.
    Input { offset: u32, payload: Vec<u8>, pad: usize, timestamps: bool, sack: Vec<u32> },
    /// An ICMP error about something that the guest sent, this much of it quoted.
    Error { offset: u32, quoted: usize },
    /// The clocks of both guests go on.
    Tick(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || vec(any::<u8>(), 0..40);
    prop_oneof![
        3 => (any::<u32>(), bytes(), 0..4usize, any::<bool>())
            .prop_map(|(offset, payload, pad, timestamps)| Step::Output { offset, payload, pad, timestamps }),
        3 => (any::<u32>(), bytes(), 0..4usize, any::<bool>(), vec(any::<u32>(), 0..3))
            .prop_map(|(offset, payload, pad, timestamps, edges)| {
                let sack = edges.iter().flat_map(|e| [*e, e.wrapping_add(9)]).collect();
                Step::Input { offset, payload, pad, timestamps, sack }
            }),
        1 => (any::<u32>(), 20..120usize).prop_map(|(offset, quoted)| Step::Error { offset, quoted }),
        1 => (0..10_000u32).prop_map(Step::Tick),
    ]
}

fn guest() -> impl Strategy<Value = Guest> {
    (any::<u32>(), any::<u32>()).prop_map(|(isn, ts)| Guest { isn, ts })
}

fn net() -> impl Strategy<Value = Net> {
    (any::<bool>(), 0..3usize, any::<bool>(), any::<u8>()).prop_map(|(v6, tags, extras, host)| Net {
        v6,
        tags,
        extras,
        host,
    })
}

/// When the primary's agent tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Before,
    After,
    Never,
}

/// The connection as one of the guests, or the wire, sees it.
struct View {
    net: Net,
    guest: Guest,
    clock: u32,
    last: u32,
}

const CLIENT: u32 = 0x1234_5678;
const CLIENT_TS: u32 = 99;

impl View {
    fn tsval(&self) -> u32 {
        self.guest.ts.wrapping_add(self.clock)
    }

    fn initial(&self, passive: bool) -> Vec<u8> {
        let (ack, flags) = if passive { (CLIENT + 1, SYN_ACK) } else { (0, SYN) };
        self.net.output(&Tcp::new(self.guest.isn, ack, flags).timestamps(1, self.guest.ts, 0))
    }

    /// The client's answer to it.
    fn answer(&self, passive: bool) -> Vec<u8> {
        let (seq, flags) = if passive { (CLIENT + 1, ACK) } else { (CLIENT, SYN_ACK) };
        self.net.input(&Tcp::new(seq, self.guest.isn.wrapping_add(1), flags).timestamps(
            2,
            CLIENT_TS,
            self.guest.ts,
        ))
    }

    /// What the step says, in this view's numbers, and whether it is output.
    fn says(&mut self, step: &Step) -> Option<(bool, Vec<u8>)> {
        let number = |offset: u32| self.guest.isn.wrapping_add(1).wrapping_add(offset);
        match step {
            Step::Output { offset, payload, pad, timestamps } => {
                let mut tcp = Tcp::new(number(*offset), CLIENT + 1, ACK).payload(payload);
                if *timestamps {
                    tcp = tcp.timestamps(*pad, self.tsval(), CLIENT_TS);
                    self.last = self.tsval();
                }
                Some((true, self.net.output(&tcp)))
            }
            Step::Input { offset, payload, pad, timestamps, sack } => {
                let mut tcp = Tcp::new(CLIENT + 1, number(*offset), ACK).payload(payload);
                if *timestamps {
                    tcp = tcp.timestamps(*pad, CLIENT_TS, self.last);
                }
                if !sack.is_empty() && tcp.options.len() + 2 + 4 * sack.len() <= 40 {
                    let edges: Vec<_> = sack.iter().map(|e| number(*e)).collect();
                    tcp = tcp.sack(&edges);
                }
                Some((false, self.net.input(&tcp)))
            }
            Step::Error { offset, quoted } => {
                let tcp = Tcp::new(number(*offset), CLIENT, ACK).payload(&[7; 50]);
                Some((false, self.net.error(false, &self.net.output(&tcp), *quoted)))
            }
            Step::Tick(ticks) => {
                self.clock += ticks;
                None
            }
        }
    }
}

/// A zero timestamp echo is none, and equal initial numbers mean one state: neither is what is tested here.
fn ordinary(primary: Guest, secondary: Guest, passive_ticks: u32) -> bool {
    let never_zero =
        |g: Guest| g.ts != 0 && g.ts.checked_add(passive_ticks).is_some_and(|end| end < u32::MAX);
    primary.isn != secondary.isn && never_zero(primary) && never_zero(secondary)
}

/// Runs the connection; the first byte that differs from what it must be is an error.
fn run(
    net: Net,
    guests: [Guest; 2],
    passive: bool,
    told: Told,
    steps: &[Step],
    flip: Option<usize>,
) -> Result<(), String> {
    let view = |guest: Guest| View { net, guest, clock: 0, last: guest.ts };
    let [mut wire, mut own] = guests.map(view);
    let mut t = Translator::new(Limits::default());
    let now = at(5);
    let initial = initial_of(&wire.initial(passive)).expect("a SYN");
    if told == Told::Before {
        assert_eq!(t.learn(now, &initial), Learned::Waiting);
    }
    let mut syn = own.initial(passive);
    assert_eq!(t.output(now, &mut syn), Outcome::Unchanged);
    if told == Told::After {
        assert_eq!(t.learn(now, &initial), Learned::Paired);
    }
    let mut answer = wire.answer(passive);
    let _ = t.input(now, &mut answer);
    if answer != own.answer(passive) {
        return Err("the answer to the handshake".to_owned());
    }
    for (i, step) in steps.iter().enumerate() {
        let (Some((output, on_wire)), Some((_, mut in_guest))) = (wire.says(step), own.says(step)) else {
            continue;
        };
        let same = if output {
            if let Some(at) = flip {
                let at = at % in_guest.len();
                in_guest[at] ^= 1;
            }
            t.output(now, &mut in_guest).forward() && in_guest == on_wire
        } else {
            let mut frame = on_wire;
            let forward = t.input(now, &mut frame).forward();
            let sound = net.sound(false, &frame);
            // A cut quote keeps its part of a checksum that covers more: only the ICMP checksum is judged.
            forward && sound && (frame == in_guest || matches!(step, Step::Error { .. }))
        };
        if !same {
            return Err(format!("step {i}"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_secondarys_stream_is_the_primarys(
        net in net(), primary in guest(), secondary in guest(), passive: bool,
        told in prop_oneof![Just(Told::Before), Just(Told::After), Just(Told::Never)],
        steps in vec(step(), 0..40),
    ) {
        prop_assume!(ordinary(primary, secondary, 400_000));
        prop_assert_eq!(run(net, [primary, secondary], passive, told, &steps, None), Ok(()));
    }

    #[test]
    fn one_flipped_bit_is_seen(
        net in net(), primary in guest(), secondary in guest(), passive: bool, at: usize,
        steps in vec(step(), 0..10),
    ) {
        prop_assume!(ordinary(primary, secondary, 400_000));
        let mut steps = steps;
        steps.push(Step::Output { offset: 5, payload: vec![1; 30], pad: 2, timestamps: true });
        let result = run(net, [primary, secondary], passive, Told::After, &steps, Some(at));
        prop_assert!(result.is_err());
    }

    #[test]
    fn no_bytes_panic_and_none_of_strangers_change(frame in vec(any::<u8>(), 0..200), input: bool) {
        let mut h = super::frames::accepted(Net::default());
        let mut after = frame.clone();
        let outcome =
            if input { h.t.input(h.now, &mut after) } else { h.t.output(h.now, &mut after) };
        prop_assert!(outcome != Outcome::Translated);
        prop_assert_eq!(after, frame);
    }

    #[test]
    fn damaged_frames_never_panic(
        net in net(), steps in vec((step(), vec((any::<usize>(), any::<u8>()), 0..4), any::<usize>()), 1..30),
    ) {
        let guest = Guest { isn: 1, ts: 1 };
        let mut view = View { net, guest, clock: 0, last: 1 };
        let mut t = Translator::new(Limits::default());
        let _ = t.output(at(0), &mut view.initial(true));
        let _ = t.learn(at(0), &initial_of(&view.initial(false)).expect("a SYN"));
        for (i, (step, damage, cut)) in steps.iter().enumerate() {
            let Some((output, mut frame)) = view.says(step) else { continue };
            for (at, byte) in damage {
                let at = at % frame.len();
                frame[at] = *byte;
            }
            if i % 2 == 0 {
                frame.truncate(cut % (frame.len() + 1));
            }
            let (length, now) = (frame.len(), at(i as u64 * 1_000));
            let _ = if output { t.output(now, &mut frame) } else { t.input(now, &mut frame) };
            prop_assert_eq!(frame.len(), length);
            let _ = initial_of(&frame);
            t.tick(now);
        }
    }
}
