use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const P: Side = Side::Primary;
const S: Side = Side::Secondary;

/// What both guests have said first: `aaaa` at 0.
fn first() -> (Bytes, RangeSet) {
    let (mut bytes, mut said) = (Bytes::default(), RangeSet::default());
    bytes.keep(0, b"aaaa");
    assert!(said.insert(0, 4));
    (bytes, said)
}

fn say(revisions: &mut Revisions, side: Side, from: i64, data: &[u8]) -> RevisionId {
    revisions.say(side, from, data, |_| false).expect("there is room")
}

#[test]
fn each_version_is_matched_with_its_own() {
    let (bytes, said) = first();
    let mut revisions = Revisions::default();
    let b = say(&mut revisions, P, 0, b"abba");
    let c = say(&mut revisions, P, 0, b"cccc");
    assert_eq!(revisions.first_unsaid(S, b, &bytes, &said), Some(1), "its `a` was said first");
    assert_eq!(revisions.first_unsaid(S, b, &bytes, &RangeSet::default()), Some(0), "by this guest, too");
    say(&mut revisions, S, 2, b"cc");
    assert_eq!(revisions.first_unsaid(S, c, &bytes, &said), Some(0));
    say(&mut revisions, S, 0, b"cc");
    assert_eq!(revisions.first_unsaid(S, c, &bytes, &said), None, "cut otherwise");
    assert_eq!(revisions.excerpt(b, 1, 2), b"bb");
    assert_eq!((revisions.len(), revisions.ahead(&bytes, &said)), (12, None));
    say(&mut revisions, S, 0, b"ddda");
    assert_eq!(revisions.ahead(&bytes, &said), Some(0));
    revisions.cut();
    assert_eq!((revisions.len(), revisions.ahead(&bytes, &said)), (8, None), "the primary's are left");
    revisions.forget_below(4);
    assert!(revisions.is_empty());
    assert_eq!(revisions.first_unsaid(S, b, &bytes, &said), None, "history");
}

#[test]
fn what_both_have_said_makes_room_unless_a_held_frame_says_it() {
    let mut revisions = Revisions::default();
    let ids: Vec<_> = (0..MAX_REVISIONS as u8).map(|n| say(&mut revisions, P, 0, &[n])).collect();
    assert!(revisions.say(P, 0, b"x", |_| false).is_err());
    say(&mut revisions, S, 0, &[0]);
    say(&mut revisions, S, 0, &[1]);
    revisions.say(P, 0, b"x", |id| id == ids[0]).expect("one has left");
    assert_eq!((revisions.len(), revisions.list[0].id), (MAX_REVISIONS, ids[0]));
}

proptest! {
    /// Model: the versions of each byte that each guest has said.
    #[test]
    fn behaves_as_versions_of_each_byte(
        ops in proptest::collection::vec((any::<bool>(), 0i64..12, proptest::collection::vec(0u8..4, 1..6)), 1..40),
    ) {
        let (bytes, said) = first();
        let mut revisions = Revisions::default();
        let mut model: [BTreeSet<(i64, u8)>; 2] = Default::default();
        for said in &mut model {
            said.extend((0..4).map(|at| (at, b'a')));
        }
        for (secondary, from, data) in ops {
            let side = if secondary { S } else { P };
            let id = say(&mut revisions, side, from, &data);
            model[side as usize].extend((from..).zip(data.iter().copied()));
            prop_assert_eq!(revisions.excerpt(id, from, data.len()), &data[..]);
            let mut all = (from..).zip(data.iter().copied());
            let unsaid = all.find(|byte| !model[side.other() as usize].contains(byte));
            prop_assert_eq!(revisions.first_unsaid(side.other(), id, &bytes, &said), unsaid.map(|(at, _)| at));
        }
        let ahead: BTreeSet<i64> = model[1].difference(&model[0]).map(|(at, _)| *at).collect();
        match revisions.ahead(&bytes, &said) {
            Some(at) => prop_assert!(ahead.contains(&at)),
            None => prop_assert!(ahead.is_empty()),
        }
    }
}
