use super::*;
use crate::epoch::Epoch;
use proptest::prelude::*;

/// All messages in an outbox, which is empty then.
pub(crate) fn said(outbox: &mut Outbox) -> Vec<String> {
    let mut inbox = Inbox::default();
    let mut said = Vec::new();
    while !outbox.is_empty() {
        let bytes = outbox.slices()[0].to_vec();
        let n = bytes.len().min(inbox.space().len());
        inbox.space()[..n].copy_from_slice(&bytes[..n]);
        inbox.filled(n);
        outbox.consume(n);
        while let Some(message) = inbox.next_message().unwrap() {
            said.push(format!("{message:?}"));
        }
    }
    said
}

fn input(frame: &[u8], index: u64) -> Message<'_> {
    Message::Input { epoch: Epoch(3), index, frame }
}

proptest! {
    /// However the bytes are cut on either side, the messages come out as they went in.
    #[test]
    fn messages_survive_any_segmentation(
        lengths in prop::collection::vec(0..3000_usize, 1..200),
        steps in prop::collection::vec(1..9000_usize, 1..50),
    ) {
        let frames: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(i, &n)| vec![i.to_le_bytes()[0]; n]).collect();
        let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
        let mut steps = steps.iter().cycle();
        let (mut pushed, mut taken) = (0, 0);
        while taken < frames.len() {
            for _ in 0..1 + steps.next().unwrap() % 17 {
                if let Some(frame) = frames.get(pushed) {
                    outbox.push(&input(frame, pushed as u64));
                    pushed += 1;
                }
            }
            let available: Vec<u8> = outbox.slices().iter().flat_map(|s| s.iter().copied()).collect();
            prop_assert!(available.len() <= outbox.len());
            let n = available.len().min(*steps.next().unwrap());
            let space = inbox.space();
            let n = n.min(space.len());
            space[..n].copy_from_slice(&available[..n]);
            inbox.filled(n);
            outbox.consume(n);
            while let Some(message) = inbox.next_message().unwrap() {
                prop_assert_eq!(message, input(&frames[taken], taken as u64));
                taken += 1;
            }
        }
        prop_assert!(outbox.is_empty() && !inbox.partial() && !outbox.stalled());
    }
}

#[test]
fn a_full_outbox_is_stalled_for_good_and_takes_no_more_memory() {
    let frame = vec![0; 60_000];
    let mut outbox = Outbox::default();
    while !outbox.stalled() {
        outbox.push(&input(&frame, 0));
    }
    let full = outbox.len();
    assert!((MAX_OUT..MAX_OUT + frame.len() + 100).contains(&full), "{full} bytes wait");
    outbox.push(&input(&frame, 0));
    assert_eq!(outbox.len(), full);
    outbox.consume(usize::MAX);
    outbox.push(&input(&frame, 0));
    assert!(outbox.stalled() && outbox.is_empty(), "a gap in the stream cannot be closed by draining it");
}

#[test]
fn the_longest_message_fits_and_an_illegal_one_is_an_error() {
    let frame = vec![9; crate::link::frame::MAX_FRAME];
    let mut outbox = Outbox::default();
    let mut inbox = Inbox::default();
    for index in 0..20 {
        outbox.push(&input(&frame, index));
        while !outbox.is_empty() {
            let bytes = outbox.slices()[0].to_vec();
            let space = inbox.space();
            let n = bytes.len().min(space.len());
            space[..n].copy_from_slice(&bytes[..n]);
            inbox.filled(n);
            outbox.consume(n);
        }
        assert_eq!(inbox.next_message().unwrap(), Some(input(&frame, index)));
    }
    inbox.space()[..4].copy_from_slice(&[0xff; 4]);
    inbox.filled(4);
    assert!(inbox.next_message().is_err());
}
