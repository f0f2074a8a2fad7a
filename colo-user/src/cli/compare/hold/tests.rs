use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const PLAIN: Framing = Framing { vnet_header: false };
const ROOMY: Bound = Bound { frames: usize::MAX, bytes: usize::MAX };

fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    crate::link::chardev::put(&mut out, body);
    out
}

/// Reads `bytes` as far as there is room and returns the tokens.
fn feed(hold: &mut Hold, mut bytes: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::new();
    while !bytes.is_empty() {
        let space = hold.space();
        let n = space.len().min(bytes.len());
        space[..n].copy_from_slice(&bytes[..n]);
        hold.filled(n);
        bytes = &bytes[n..];
        while let Some((token, _)) = hold.next_frame().expect("legal") {
            tokens.push(token);
        }
    }
    tokens
}

/// Writes up to `limit` bytes out.
fn drain(hold: &mut Hold, limit: usize) -> Vec<u8> {
    let mut bytes = hold.output().concat();
    bytes.truncate(limit);
    hold.written(bytes.len());
    bytes
}

trait Concat {
    fn concat(&self) -> Vec<u8>;
}

impl Concat for Vec<IoSlice<'_>> {
    fn concat(&self) -> Vec<u8> {
        self.iter().flat_map(|slice| slice.iter().copied()).collect()
    }
}

#[test]
fn frames_released_in_order_leave_in_one_piece() {
    let mut hold = Hold::new(PLAIN, ROOMY);
    let stream: Vec<u8> = (0..100_u8).flat_map(|n| framed(&[n; 100])).collect();
    for token in feed(&mut hold, &stream) {
        hold.release(token);
    }
    assert_eq!(hold.output().len(), 1);
    assert_eq!(drain(&mut hold, usize::MAX), stream);
    assert_eq!((hold.frames(), hold.bytes()), (0, 0));
}

#[test]
fn a_frame_half_written_to_a_lost_peer_is_written_whole() {
    let mut hold = Hold::new(PLAIN, ROOMY);
    let frames: Vec<Vec<u8>> = (0..3_u8).map(|n| framed(&[n; 10])).collect();
    for token in feed(&mut hold, &frames.concat()) {
        hold.release(token);
    }
    assert_eq!(drain(&mut hold, 14 + 5).len(), 19);
    hold.rewind();
    assert_eq!(hold.frames(), 2);
    assert_eq!(drain(&mut hold, usize::MAX), frames[1..].concat());
    assert_eq!((hold.frames(), hold.bytes()), (0, 0));
    hold.rewind();
    assert!(!hold.has_output());
}

#[test]
fn the_bound_stops_input_and_loses_nothing() {
    let mut hold = Hold::new(PLAIN, Bound { frames: 3, bytes: usize::MAX });
    let frames: Vec<Vec<u8>> = (0..5_u8).map(|n| framed(&[n])).collect();
    let held = feed(&mut hold, &frames.concat());
    assert_eq!((held.len(), hold.has_room()), (3, false));
    hold.discard(held[0]);
    let (fourth, bytes) = hold.next_frame().expect("legal").expect("there is room again");
    assert_eq!(bytes, [3]);
    hold.release(fourth);
    assert!(!hold.has_room(), "queued frames count too");
    drain(&mut hold, usize::MAX);
    assert_eq!(hold.next_frame().expect("legal").expect("there is room again").1, [4]);
}

#[test]
fn few_frames_left_behind_do_not_pin_much_memory() {
    let mut hold = Hold::new(PLAIN, ROOMY);
    let mut stayed = VecDeque::new();
    let body = vec![1; 1000];
    for n in 0..1_000_000_u32 / 50 {
        for (at, token) in feed(&mut hold, &framed(&body).repeat(50)).into_iter().enumerate() {
            if n % 20 == 0 && at == 0 {
                stayed.push_back(token);
            } else {
                hold.release(token);
            }
        }
        drain(&mut hold, usize::MAX);
    }
    assert_eq!(stayed.len(), 1000);
    let memory = hold.memory();
    assert!(memory < 2 * COMPACT_FROM * CHUNK, "1 MB held in {memory} bytes");
    for token in stayed {
        hold.release(token);
    }
    let mut out = Vec::new();
    while hold.has_output() {
        out.extend(drain(&mut hold, usize::MAX));
    }
    assert_eq!(out, framed(&body).repeat(1000));
    assert_eq!((hold.frames(), hold.bytes()), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Read(Vec<u16>),
    Release(prop::sample::Index),
    Discard(prop::sample::Index),
    Write(usize),
    NewPeer,
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(prop_oneof![0_u16..100, 0_u16..20_000], 1..40).prop_map(Step::Read),
        8 => any::<prop::sample::Index>().prop_map(Step::Release),
        2 => any::<prop::sample::Index>().prop_map(Step::Discard),
        4 => (0_usize..60_000).prop_map(Step::Write),
        1 => Just(Step::NewPeer),
        1 => Just(Step::Cut),
    ]
}

proptest! {
    /// Against a model that copies: a queue of byte strings, and what a peer has received so far.
    #[test]
    fn a_peer_gets_just_what_was_released_and_in_order(steps in prop::collection::vec(step(), 1..200)) {
        let mut hold = Hold::new(PLAIN, ROOMY);
        let mut held: Vec<(Token, Vec<u8>)> = Vec::new();
        let mut queue: VecDeque<Vec<u8>> = VecDeque::new();
        let mut received = Vec::new();
        let mut serial = 0_u8;
        for step in steps {
            match step {
                Step::Read(sizes) => {
                    let frames: Vec<Vec<u8>> = sizes.iter().map(|&size| {
                        serial = serial.wrapping_add(1);
                        framed(&vec![serial; usize::from(size)])
                    }).collect();
                    held.extend(feed(&mut hold, &frames.concat()).into_iter().zip(frames));
                }
                Step::Release(index) if !held.is_empty() => {
                    let (token, frame) = held.remove(index.index(held.len()));
                    hold.release(token);
                    queue.push_back(frame);
                }
                Step::Discard(index) if !held.is_empty() => {
                    let (token, _) = held.remove(index.index(held.len()));
                    hold.discard(token);
                }
                Step::Release(_) | Step::Discard(_) => {}
                Step::Write(limit) => {
                    received.extend(drain(&mut hold, limit));
                    while let Some(frame) = queue.front().filter(|frame| received.starts_with(frame)) {
                        received.drain(..frame.len());
                        queue.pop_front();
                    }
                    if let Some(frame) = queue.front() {
                        prop_assert!(frame.starts_with(&received));
                    } else {
                        prop_assert!(received.is_empty());
                    }
                }
                Step::NewPeer => {
                    hold.rewind();
                    received.clear();
                }
                Step::Cut => {
                    let space = hold.space();
                    space[..5].copy_from_slice(&[0, 0, 0, 9, 1]);
                    hold.filled(5);
                    prop_assert!(hold.next_frame().expect("legal").is_none());
                    prop_assert!(hold.reset_input());
                }
            }
            // A span counts until all of it has left.
            prop_assert!(hold.frames() >= held.len() + queue.len());
        }
        hold.rewind();
        prop_assert_eq!(hold.frames(), held.len() + queue.len());
        prop_assert_eq!(
            hold.bytes(),
            held.iter().map(|(_, f)| f.len()).sum::<usize>() + queue.iter().map(Vec::len).sum::<usize>()
        );
    }
}
