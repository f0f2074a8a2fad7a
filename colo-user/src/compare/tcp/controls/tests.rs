use super::*;

const P: Side = Side::Primary;
const S: Side = Side::Secondary;

fn reset(data: &[u8]) -> Control {
    Control::Reset(data.into())
}

#[test]
fn the_first_of_a_kind_must_be_the_same_and_a_later_one_may_wait() {
    let mut controls = Controls::default();
    let (a, differs) = controls.say(P, reset(b"a"), |_| false).unwrap();
    assert_eq!(differs, None, "the other guest has said none");
    let (b, _) = controls.say(P, reset(b"b"), |_| false).unwrap();
    let (id, differs) = controls.say(S, reset(b"b"), |_| false).unwrap();
    assert_eq!((id, differs), (b, Some(&reset(b"a"))), "the secondary's first is the primary's second");
    let (_, differs) = controls.say(S, reset(b"c"), |_| false).unwrap();
    assert_eq!(differs, None, "only the first counts");
    assert!(!controls.said_by(S, a) && controls.said_by(S, b));
    assert!(controls.lone(Kind::Reset) && !controls.lone(Kind::Fin));
    controls.cut();
    assert!(controls.said_by(S, a), "after a cut both own what the primary said");
    assert!(!controls.lone(Kind::Reset), "what only the secondary said is gone");
}

#[test]
fn those_that_both_have_said_make_room_unless_a_held_frame_says_them() {
    let mut controls = Controls::default();
    let mut ids = Vec::new();
    for at in 0..MAX_CONTROLS as i64 {
        ids.push(controls.say(P, Control::Fin(at), |_| false).unwrap().0);
    }
    assert!(controls.say(P, Control::Fin(-1), |_| false).is_err(), "nothing is agreed");
    controls.say(S, Control::Fin(0), |_| false).unwrap();
    controls.say(S, Control::Fin(1), |_| false).unwrap();
    controls.say(P, Control::Fin(-1), |id| id == ids[0]).unwrap();
    assert_eq!(controls.fins(S).collect::<Vec<_>>(), [(0, true)], "the held one stays, the other has left");
    assert!(controls.said_by(S, ids[1]), "what has left was said by both");
    assert!(!controls.said_by(S, ids[2]));
}
