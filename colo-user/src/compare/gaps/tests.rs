use super::*;

#[test]
fn what_lies_between_known_ranges_is_not_known() {
    let gaps = Gaps::between(vec![8..12, 0..4, 3..6], 20);
    assert_eq!(gaps.iter().collect::<Vec<_>>(), [6..8, 12..20]);
    assert_eq!((gaps.sure(&[0; 20]), gaps.total(&[0; 12])), (6, Some(20)));
    assert_eq!(gaps.after(7).iter().collect::<Vec<_>>(), [0..1, 5..13]);
    assert_eq!(Gaps::between(vec![0..5, 5..9], 9), Gaps::NONE);
    assert_eq!(Gaps::behind(9, 0), Gaps::NONE);
    assert_eq!(Gaps::behind(9, 2).after(30), Gaps::NONE);
}

#[test]
fn a_length_that_is_not_known_may_be_any_that_is_long_enough() {
    let (open, cut) = (Gaps::open(3), Gaps::behind(3, 4));
    assert_eq!((open.total(b"abc"), open.after(2)), (None, Gaps::open(1)));
    for (one, other, same) in [
        ((&b"abc"[..], &open), (&b"abcd"[..], &Gaps::NONE), true),
        ((b"abc", &open), (b"ab", &Gaps::NONE), false),
        ((b"abc", &open), (b"abc", &cut), true),
        ((b"abc", &open), (b"abc", &open), true),
        ((b"abc", &cut), (b"abcdefg", &Gaps::NONE), true),
        ((b"abc", &cut), (b"abcdef", &Gaps::NONE), false),
    ] {
        assert_eq!((same_length(one, other), same_length(other, one)), (same, same), "{one:?} {other:?}");
    }
}

#[test]
fn only_what_both_know_differs() {
    let cut = Gaps::behind(3, 4);
    let hole = Gaps::between(vec![0..1, 2..7], 7);
    for (one, other, first) in [
        ((&b"abc"[..], &cut), (&b"abcdefg"[..], &Gaps::NONE), None),
        ((b"abc", &cut), (b"abXdefg", &Gaps::NONE), Some(2)),
        ((b"a_cdefg", &hole), (b"aXcdefg", &Gaps::NONE), None),
        ((b"a_cdefg", &hole), (b"aXcdefX", &Gaps::NONE), Some(6)),
        ((b"abc", &cut), (b"aXX", &hole), Some(2)),
    ] {
        assert_eq!(first_difference(one, other), first, "{one:?} {other:?}");
        assert_eq!(first_difference(other, one), first, "{other:?} {one:?}");
    }
}
