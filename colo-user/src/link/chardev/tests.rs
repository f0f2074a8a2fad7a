use proptest::prelude::*;

use super::*;

const PLAIN: Framing = Framing { vnet_header: false };
const VNET: Framing = Framing { vnet_header: true };

fn framed(vnet: Option<u32>, body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(body.len()).expect("short").to_be_bytes().to_vec();
    out.extend(vnet.iter().flat_map(|n| n.to_be_bytes()));
    out.extend_from_slice(body);
    out
}

/// Feeds `stream` in pieces of the given sizes and collects the frames.
fn decode(framing: Framing, stream: &[u8], pieces: &[usize]) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::new(framing, 0);
    let mut frames = Vec::new();
    let (mut rest, mut piece) = (stream, pieces.iter().cycle());
    while !rest.is_empty() {
        let space = decoder.space();
        let n = rest.len().min(space.len()).min(*piece.next().expect("cycles"));
        space[..n].copy_from_slice(&rest[..n]);
        rest = &rest[n..];
        decoder.filled(n);
        while let Some(frame) = decoder.next_frame().expect("legal lengths") {
            frames.push(frame.to_vec());
        }
    }
    frames
}

#[test]
fn the_limits_are_inclusive() {
    for length in [0, 1, MAX_FRAME] {
        let body = vec![7; length];
        assert_eq!(decode(PLAIN, &framed(None, &body), &[usize::MAX]), [body]);
    }
    let length = u32::try_from(MAX_FRAME + 1).expect("small");
    assert_eq!(PLAIN.parse(&length.to_be_bytes()), Err(Oversized { length }));
    assert_eq!(VNET.parse(&u32::MAX.to_be_bytes()), Err(Oversized { length: u32::MAX }));
}

#[test]
fn the_virtio_header_is_no_part_of_the_frame() {
    assert_eq!(decode(VNET, &framed(Some(0), b"abc"), &[1]), [b"abc"]);
    assert_eq!(decode(VNET, &framed(Some(2), b"abc"), &[1]), [b"c"]);
    let empty: &[u8] = b"";
    assert_eq!(decode(VNET, &framed(Some(3), b"abc"), &[1]), [empty]);
}

#[test]
fn an_impossible_virtio_header_hides_nothing() {
    assert_eq!(decode(VNET, &framed(Some(4), b"abc"), &[1]), [b"abc"]);
    assert_eq!(decode(VNET, &framed(Some(21), &[1; 64]), &[1]), [[1; 64]]);
    assert_eq!(decode(VNET, &framed(Some(u32::MAX), b"abc"), &[1]), [b"abc"]);
}

#[test]
fn a_frame_broken_off_is_forgotten() {
    let mut decoder = Decoder::new(PLAIN, 0);
    for (bytes, partial) in [(&framed(None, b"whole")[..7], true), (&framed(None, b"whole")[..], false)] {
        decoder.space()[..bytes.len()].copy_from_slice(bytes);
        decoder.filled(bytes.len());
        while decoder.next_frame().expect("legal").is_some() {}
        assert_eq!(decoder.reset(), partial);
    }
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_its_frames_are_the_same(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        vnet in any::<bool>(),
        pieces in prop::collection::vec(1_usize..300, 1..20),
    ) {
        let framing = Framing { vnet_header: vnet };
        let stream: Vec<u8> = bodies.iter().flat_map(|b| framed(vnet.then_some(0), b)).collect();
        prop_assert_eq!(decode(framing, &stream, &pieces), bodies);
    }

    #[test]
    fn garbage_never_reaches_outside_the_buffer(bytes in prop::collection::vec(any::<u8>(), 0..300), vnet in any::<bool>()) {
        if let Ok(Some(frame)) = (Framing { vnet_header: vnet }).parse(&bytes) {
            prop_assert!(frame.body <= frame.ethernet && frame.ethernet <= frame.total && frame.total <= bytes.len());
        }
    }
}
