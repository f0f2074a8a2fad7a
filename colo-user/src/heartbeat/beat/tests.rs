use proptest::prelude::*;

use super::*;

fn pair(name: &str) -> Pair {
    name.parse().unwrap()
}

fn beat() -> Beat {
    Beat {
        boot: 0x0102_0304_0506_0708,
        seq: 2,
        sent: 3,
        echo: 4,
        held: 5,
        heard_boot: 6,
        condition: Condition { primary: true, promotable: true, term: 7, ..Condition::default() },
    }
}

fn bytes(beat: &Beat, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    beat.encode(&pair(name), &mut bytes);
    bytes
}

#[test]
fn the_layout_is_the_documented_one() {
    let bytes = bytes(&beat(), "vm1");
    assert_eq!(bytes[..8], *b"COLB\x01\x09\x03\x00");
    assert_eq!(bytes[8..16], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bytes[56..64], [0, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!(bytes[FIXED..], *b"vm1");
}

#[test]
fn what_is_no_beat_of_this_pair_is_refused_by_name() {
    let good = bytes(&beat(), "vm1");
    for cut in 0..good.len() {
        assert_eq!(Beat::decode(&good[..cut], &pair("vm1")), Err(DecodeError::Foreign(cut)));
    }
    let longer = [&good[..], b"x"].concat();
    assert_eq!(Beat::decode(&longer, &pair("vm1")), Err(DecodeError::Foreign(good.len() + 1)));
    let mut other = good.clone();
    other[4] = 9;
    assert_eq!(Beat::decode(&other, &pair("vm1")), Err(DecodeError::Version { got: 9 }));
    assert_eq!(Beat::decode(&good, &pair("vm2")), Err(DecodeError::Pair("vm1".into())));
}

proptest! {
    #[test]
    fn what_is_said_is_heard(
        numbers in any::<[u64; 7]>(), flags in any::<[bool; 5]>(), name in "[a-zA-Z0-9_:-]{1,64}",
    ) {
        let [boot, seq, sent, echo, held, heard_boot, term] = numbers;
        let [primary, paused, closed, promotable, carrier] = flags;
        let condition = Condition { primary, paused, closed, promotable, carrier, term };
        let beat = Beat { boot, seq, sent, echo, held, heard_boot, condition };
        let bytes = bytes(&beat, &name);
        prop_assert!(bytes.len() <= MAX_LEN);
        prop_assert_eq!(Beat::decode(&bytes, &pair(&name)), Ok(beat));
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
        let _ = Beat::decode(&bytes, &pair("vm1"));
    }
}
