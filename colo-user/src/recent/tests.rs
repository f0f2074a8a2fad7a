use super::*;

#[test]
fn what_was_not_touched_while_as_many_others_were_is_forgotten() {
    let mut recent = Recent::new(4);
    for key in 0..8 {
        *recent.touch(key, || 0) += 1;
    }
    assert_eq!((recent.iter().count(), recent.forgotten()), (8, 0));
    // An old one is young again and keeps its value; the others of its age make room.
    *recent.touch(0, || 0) += 1;
    assert_eq!((recent.iter().count(), recent.forgotten()), (5, 3));
    assert_eq!(recent.remove(&0), Some(2));
    assert_eq!((recent.remove(&1), recent.remove(&7)), (None, Some(1)));
    recent.clear();
    assert_eq!((recent.iter().count(), recent.forgotten()), (0, 3));
}

#[test]
fn one_that_is_touched_again_and_again_stays() {
    let mut recent = Recent::new(4);
    for key in 0..1000 {
        recent.touch(-1, || "stays");
        recent.touch(key, || "goes");
        assert!(recent.iter().count() <= 8);
    }
    assert_eq!(recent.remove(&-1), Some("stays"));
}
