use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const P: Side = Side::Primary;
const S: Side = Side::Secondary;

fn say(revisions: &mut Revisions, side: Side, from: i64, data: &[u8]) -> Vec<Run> {
    let mut runs = Vec::new();
    revisions.say(side, from, data, |_| false, &mut runs).expect("there is room");
    runs
}

#[test]
fn each_version_is_matched_with_its_own() {
    let mut revisions = Revisions::default();
    let b = say(&mut revisions, P, 0, b"bbbb");
    let c = say(&mut revisions, P, 0, b"cccc");
    assert_eq!((b.len(), c.len()), (1, 1));
    say(&mut revisions, S, 2, b"cc");
    assert_eq!(revisions.first_unsaid(S, &b[0]), Some(0));
    assert_eq!(revisions.first_unsaid(S, &c[0]), Some(0));
    say(&mut revisions, S, 0, b"cc");
    assert_eq!(revisions.first_unsaid(S, &c[0]), None);
    assert_eq!(revisions.excerpt(c[0].layer, 1, 2), b"cc");
    assert_eq!((revisions.len(), revisions.first_ahead()), (8, None));
    say(&mut revisions, S, 0, b"dddd");
    assert_eq!(revisions.first_ahead(), Some(0));
    revisions.cut();
    assert_eq!((revisions.len(), revisions.first_ahead()), (8, None), "only the primary's counts");
    revisions.forget_below(4);
    assert!(revisions.is_empty());
    assert_eq!(revisions.first_unsaid(S, &b[0]), None, "history");
}

#[test]
fn versions_that_both_have_said_make_room_unless_a_held_frame_says_them() {
    let mut revisions = Revisions::default();
    let mut layers = Vec::new();
    for version in 0..MAX_REVISIONS as u8 {
        layers.push(say(&mut revisions, P, 0, &[version])[0].layer);
    }
    let mut runs = Vec::new();
    assert!(revisions.say(P, 0, b"x", |_| false, &mut runs).is_err());
    say(&mut revisions, S, 0, &[0]);
    say(&mut revisions, S, 0, &[1]);
    revisions.say(P, 0, b"x", |layer| layer == layers[0], &mut runs).expect("one has left");
    assert_eq!(revisions.first_unsaid(S, &Run { from: 0, to: 1, layer: layers[0] }), None);
    assert_eq!(revisions.layers.len(), MAX_REVISIONS);
}

proptest! {
    /// Model: for each offset the versions that each guest has said there.
    #[test]
    fn behaves_as_versions_of_each_byte(
        ops in proptest::collection::vec((any::<bool>(), 0i64..12, proptest::collection::vec(0u8..4, 1..6)), 1..40),
    ) {
        let mut revisions = Revisions::default();
        let mut model: BTreeMap<(i64, u8), [bool; 2]> = BTreeMap::new();
        for (secondary, from, data) in ops {
            let side = if secondary { S } else { P };
            let runs = say(&mut revisions, side, from, &data);
            for (at, byte) in (from..).zip(&data) {
                model.entry((at, *byte)).or_default()[side as usize] = true;
            }
            let covered: usize = runs.iter().map(|run| (run.to - run.from) as usize).sum();
            prop_assert_eq!(covered, data.len());
            for run in runs {
                let bytes = &data[(run.from - from) as usize..(run.to - from) as usize];
                prop_assert_eq!(revisions.excerpt(run.layer, run.from, bytes.len()), bytes);
                let unsaid = (run.from..).zip(bytes).find(|(at, b)| !model[&(*at, **b)][side.other() as usize]);
                prop_assert_eq!(revisions.first_unsaid(side.other(), &run), unsaid.map(|(at, _)| at));
            }
        }
        let ahead = model.iter().find(|(_, by)| **by == [false, true]).map(|((at, _), _)| *at);
        prop_assert_eq!(revisions.first_ahead(), ahead);
        prop_assert_eq!(revisions.len(), model.len());
    }
}
