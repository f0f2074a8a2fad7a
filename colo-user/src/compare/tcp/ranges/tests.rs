use super::*;
use proptest::prelude::*;

proptest! {
    /// Model: a plain set of small integers.
    #[test]
    fn behaves_as_a_set(ops in proptest::collection::vec((0i64..60, 0i64..12, any::<bool>()), 1..60)) {
        let mut set = RangeSet::default();
        let mut model = std::collections::BTreeSet::new();
        for (from, len, remove) in ops {
            if remove {
                set.remove_below(from / 2);
                model.retain(|&x| x >= from / 2);
            } else {
                prop_assert!(set.insert(from, from + len));
                model.extend(from..from + len);
            }
            prop_assert_eq!(set.0.first().map(|r| r.0), model.first().copied());
            prop_assert_eq!(set.0.last().map(|r| r.1), model.last().map(|x| x + 1));
            for x in 0..75 {
                let gap = (x..).find(|y| !model.contains(y)).unwrap();
                prop_assert_eq!(set.first_gap(x), gap);
                prop_assert_eq!(set.covers(x, x + 3), gap >= x + 3);
            }
            prop_assert!(set.0.windows(2).all(|w| w[0].1 < w[1].0), "{:?}", set);
        }
    }

    #[test]
    fn the_first_offset_outside_another_set(
        a in proptest::collection::vec((0i64..40, 1i64..8), 0..6),
        b in proptest::collection::vec((0i64..40, 1i64..8), 0..6),
    ) {
        let build = |ranges: &[(i64, i64)]| {
            let mut set = RangeSet::default();
            for &(from, len) in ranges {
                set.insert(from, from + len);
            }
            set
        };
        let (a, b) = (build(&a), build(&b));
        let model = (0..60).find(|&x| a.covers(x, x + 1) && !b.covers(x, x + 1));
        prop_assert_eq!(a.first_outside(&b), model);
        let count = (0..60).filter(|&x| a.covers(x, x + 1) && !b.covers(x, x + 1)).count();
        prop_assert_eq!(a.count_outside(&b), count as i64);
    }
}

#[test]
fn holes_are_bounded() {
    let mut set = RangeSet::default();
    for i in 0..MAX_RANGES as i64 {
        assert!(set.insert(i * 2, i * 2 + 1));
    }
    assert!(!set.insert(-5, -4));
    assert!(set.insert(1, 2), "filling a hole needs no new range");
    assert!(set.insert(-5, -4));
}
