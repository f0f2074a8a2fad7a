use super::super::ranges::RangeSet;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

proptest! {
    /// Model: a map from offset to byte.
    #[test]
    fn keeps_what_was_said_last(
        ops in proptest::collection::vec((-20i64..60, proptest::collection::vec(0u8..4, 0..20)), 1..30),
        probe in proptest::collection::vec(0u8..4, 30),
    ) {
        let mut bytes = Bytes::default();
        let mut model = BTreeMap::new();
        for (from, data) in ops {
            let differs = (from..)
                .zip(&data)
                .find(|(at, byte)| model.get(at).is_some_and(|kept| kept != *byte))
                .map(|(at, _)| at);
            prop_assert_eq!(bytes.first_difference(from, &data), differs);
            bytes.keep(from, &data);
            model.extend((from..).zip(data));
            prop_assert_eq!(bytes.len(), model.len());
        }
        for from in -25..70 {
            let expected: Vec<u8> = (from..from + 9).map_while(|at| model.get(&at).copied()).collect();
            prop_assert_eq!(bytes.excerpt(from, 9), expected);
        }
        let differs = (0..)
            .zip(&probe)
            .find(|(at, byte)| model.get(at).is_some_and(|kept| kept != *byte))
            .map(|(at, _)| at);
        prop_assert_eq!(bytes.first_difference(0, &probe), differs);

        let mut said = RangeSet::default();
        said.insert(5, 20);
        said.insert(25, 26);
        bytes.forget_outside(&said);
        model.retain(|&at, _| said.covers(at, at + 1));
        prop_assert_eq!(bytes.len(), model.len());
    }
}

#[test]
fn forgets_from_the_front() {
    let mut bytes = Bytes::default();
    bytes.keep(0, b"abc");
    bytes.keep(3, b"def");
    bytes.keep(10, b"x");
    bytes.forget_below(5);
    assert_eq!(bytes.len(), 4);
    assert_eq!(bytes.excerpt(3, 10), b"def");
    bytes.forget_below(6);
    assert_eq!((bytes.len(), bytes.first()), (1, Some((10, 11))));
}
