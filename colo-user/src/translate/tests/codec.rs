//! Messages on the link.

use super::super::{Base, DecodeError, Delta, Flow, LearnedInitial, initial_of};
use super::frames::{ACK, Net, RST_ACK, SYN, SYN_ACK, Tcp};
use crate::wire::{IpFamily, Vlans};
use colo_ebpf::tags::{MAX_TAGS, TAG_TYPES};
use proptest::prelude::*;

fn flow() -> impl Strategy<Value = Flow> {
    let tag = (proptest::sample::select(&TAG_TYPES[..]), 0..4096u16);
    let tags = prop_oneof![
        proptest::collection::vec(tag.clone(), 0..=MAX_TAGS).prop_map(|tags| Vlans::of(&tags)),
        proptest::collection::vec(tag, 0..MAX_TAGS).prop_map(|tags| Vlans::of(&tags).in_snap()),
    ];
    (any::<bool>(), tags, any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u16>(), any::<u16>()).prop_map(
        |(v6, vlans, mut guest, mut peer, guest_port, peer_port)| {
            if !v6 {
                guest[4..].fill(0);
                peer[4..].fill(0);
            }
            let family = if v6 { IpFamily::V6 } else { IpFamily::V4 };
            Flow { family, vlans, guest, peer, guest_port, peer_port }
        },
    )
}

proptest! {
    #[test]
    fn what_is_told_is_what_is_heard(flow in flow(), a: u32, b: u32, c: Option<u32>) {
        let initial = LearnedInitial { flow, primary_isn: a, primary_tsval: c };
        let base = Base { flow, delta: Delta { seq: a, ts: b }, guest_isn: c };
        let mut bytes = Vec::new();
        initial.encode(&mut bytes);
        prop_assert!(bytes.len() <= LearnedInitial::MAX_ENCODED);
        prop_assert_eq!(LearnedInitial::decode(&bytes), Ok(initial));
        for cut in 0..bytes.len() {
            let length = matches!(LearnedInitial::decode(&bytes[..cut]), Err(DecodeError::Length { .. }));
            prop_assert!(length, "{} of {} bytes", cut, bytes.len());
        }
        bytes.clear();
        base.encode(&mut bytes);
        prop_assert!(bytes.len() <= Base::MAX_ENCODED);
        prop_assert_eq!(Base::decode(&bytes), Ok(base));
        bytes.push(0);
        prop_assert!(Base::decode(&bytes).is_err());
    }

    #[test]
    fn no_bytes_panic_the_decoders(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(initial) = LearnedInitial::decode(&bytes) {
            let mut again = Vec::new();
            initial.encode(&mut again);
            prop_assert_eq!(&again[1..], &bytes[1..], "one form per message");
        }
        let _ = Base::decode(&bytes);
    }
}

#[test]
fn nonsense_is_named() {
    assert_eq!(LearnedInitial::decode(&[]), Err(DecodeError::Length { got: 0, want: 1 }));
    assert_eq!(LearnedInitial::decode(&[0x80]), Err(DecodeError::Flags(0x80)));
    assert_eq!(LearnedInitial::decode(&[0x14]), Err(DecodeError::Flags(0x14)));
    let mut bytes = vec![0x04, 0xff, 0xff];
    bytes.resize(1 + 2 + 12 + 4, 0);
    assert_eq!(LearnedInitial::decode(&bytes), Err(DecodeError::Tag(0xffff)));
    assert_eq!(
        DecodeError::Length { got: 3, want: 17 }.to_string(),
        "translation message has 3 bytes, its first byte asks for 17"
    );
}

#[test]
fn initial_numbers_are_in_syns_only() {
    let net = Net { v6: true, tags: 2, extras: true, host: 3 };
    let initial = initial_of(&net.output(&Tcp::new(9, 1, SYN_ACK).timestamps(1, 42, 7))).unwrap();
    assert_eq!((initial.primary_isn, initial.primary_tsval), (9, Some(42)));
    assert_eq!(
        initial.flow.to_string(),
        "tcp [fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:301]:80 > [fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:302]:40000 vlan 10 vlan 11"
    );
    assert_eq!(initial_of(&net.output(&Tcp::new(9, 0, SYN))).unwrap().primary_tsval, None);
    for flags in [ACK, RST_ACK, SYN | RST_ACK] {
        assert_eq!(initial_of(&net.output(&Tcp::new(9, 1, flags))), None);
    }
    assert_eq!(initial_of(&net.packet(true, 17, &[0; 40])), None);
    assert_eq!(initial_of(&[]), None);
}
