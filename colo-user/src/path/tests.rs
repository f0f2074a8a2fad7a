use super::*;

const OWN: u32 = 70;
const GUEST: Side = Side::Guest;

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

fn seen(name: &str, index: u32, program: Option<u32>) -> Seen {
    Seen { index, name: name.to_owned(), up: true, carrier: true, program }
}

/// The core and what it had done.
struct Rig {
    paths: Paths,
    out: Vec<Do>,
}

impl Rig {
    fn new() -> Self {
        let (guest, uplink) = (seen("tap0", 5, Some(OWN)), seen("up0", 6, Some(OWN + 1)));
        let paths = Paths::new(at(0), ("tap0", &guest), ("up0", &uplink));
        Self { paths, out: Vec::new() }
    }

    /// A look at the guest's side at `now`, by the index that is known.
    fn look(&mut self, now: u64, there: Option<Seen>, named: Option<Seen>) -> Vec<Do> {
        self.told(now, None, there, named)
    }

    fn told(&mut self, now: u64, gone: Option<Gone>, there: Option<Seen>, named: Option<Seen>) -> Vec<Do> {
        let index = self.paths.of(GUEST).index;
        self.paths.look(at(now), GUEST, &Look { at: at(now), index, gone, there, named }, &mut self.out);
        let out = std::mem::take(&mut self.out);
        for done in &out {
            if matches!(done, Do::Shut(_) | Do::Bare(_) | Do::LetGo(_)) {
                self.paths.shut(at(now), GUEST);
            }
        }
        out
    }

    fn fault(&self) -> Option<&Fault> {
        self.paths.of(GUEST).fault.as_ref()
    }

    fn reason(&self) -> &'static str {
        self.paths.fault().map_or("", |(side, fault)| fault.reason(side))
    }
}

#[test]
fn one_that_is_as_it_was_is_left_alone() {
    let mut rig = Rig::new();
    assert!(rig.look(1, Some(seen("tap0", 5, Some(OWN))), Some(seen("tap0", 5, Some(OWN)))).is_empty());
    assert!(rig.paths.is_whole());
    assert_eq!(rig.paths.of(GUEST).restored, 0);
}

#[test]
fn a_new_name_is_followed_and_the_path_is_whole() {
    let mut rig = Rig::new();
    // Meanwhile another has the name that was given.
    assert!(rig.look(1, Some(seen("old0", 5, Some(OWN))), Some(seen("tap0", 9, None))).is_empty());
    assert!(rig.paths.is_whole());
    assert_eq!((rig.paths.of(GUEST).name.as_str(), rig.paths.of(GUEST).given.as_str()), ("old0", "tap0"));
    // Once the one is gone, the other is what was asked for.
    let other = seen("tap0", 9, None);
    assert_eq!(rig.look(2, None, Some(other.clone())), [Do::LetGo(GUEST), Do::Attach(GUEST, other)]);
}

#[test]
fn one_that_is_deleted_is_lost_until_one_of_its_name_is_fit() {
    let mut rig = Rig::new();
    assert_eq!(rig.told(10, Some(Gone::Deleted), None, None), [Do::LetGo(GUEST)]);
    assert_eq!((rig.reason(), rig.fault()), ("guest interface gone", Some(&Fault::Gone)));
    assert!(!rig.paths.is_whole() && rig.paths.of(Side::Uplink).is_whole());
    assert!(rig.look(20, None, None).is_empty());
    let mut anew = Seen { up: false, ..seen("tap0", 9, None) };
    assert!(rig.look(30, None, Some(anew.clone())).is_empty());
    assert_eq!(rig.reason(), "guest interface down");
    anew.up = true;
    let stranger = Seen { program: Some(3), ..anew.clone() };
    assert!(rig.look(40, None, Some(stranger)).is_empty());
    assert_eq!(rig.fault(), Some(&Fault::Taken(3)));
    assert!(rig.look(45, None, None).is_empty());
    assert_eq!(rig.fault(), Some(&Fault::Gone), "that one is gone, too");
    // Carrier is no condition: the program is there before the first frame.
    anew.carrier = false;
    assert_eq!(rig.look(50, None, Some(anew.clone())), [Do::Attach(GUEST, anew.clone())]);
    rig.paths.refused(at(51), GUEST, "two queues".into());
    assert_eq!(rig.reason(), "guest interface refused");
    assert_eq!(rig.look(60, None, Some(anew.clone())), [Do::Attach(GUEST, anew.clone())], "tried again");
    let ours = Seen { program: Some(OWN), ..anew };
    rig.paths.opened(at(61), GUEST, &ours);
    assert!(rig.paths.is_whole());
    let path = rig.paths.of(GUEST);
    assert_eq!((path.index, path.lost, path.restored), (9, 1, 1));
    assert_eq!(rig.look(70, Some(ours), None), [Do::Shut(GUEST)], "it has no carrier");
}

/// A device that comes back with the same index and the same program has lost its sockets all the same.
#[test]
fn one_that_was_away_is_attached_anew_whatever_it_bears() {
    let mut rig = Rig::new();
    let back = seen("tap0", 5, Some(OWN));
    let out = rig.told(10, Some(Gone::Moved), Some(back.clone()), Some(back.clone()));
    assert_eq!(out, [Do::LetGo(GUEST)], "our program is on it, until it is let go");
    assert_eq!(rig.fault(), Some(&Fault::Moved));
    let bare = Seen { program: None, ..back };
    assert_eq!(rig.look(20, None, Some(bare.clone())), [Do::Attach(GUEST, bare)]);
}

#[test]
fn one_that_is_moved_says_so() {
    let mut rig = Rig::new();
    assert_eq!(rig.told(10, Some(Gone::Moved), None, None), [Do::LetGo(GUEST)]);
    assert!(rig.look(20, None, None).is_empty());
    assert_eq!(rig.reason(), "guest interface moved");
    // It is found gone before the kernel says how; whoever looked may not have known.
    for index in [5, 0] {
        let mut rig = Rig::new();
        assert_eq!(rig.look(10, None, None), [Do::LetGo(GUEST)]);
        assert_eq!(rig.reason(), "guest interface gone");
        let look = Look { at: at(9), index, gone: Some(Gone::Moved), ..Look::default() };
        rig.paths.look(at(20), GUEST, &look, &mut rig.out);
        assert_eq!((rig.reason(), rig.paths.of(GUEST).lost), ("guest interface moved", 1));
        assert!(rig.out.is_empty() && rig.look(30, None, None).is_empty());
        assert_eq!(rig.reason(), "guest interface moved");
    }
    let way_out = Fault::Moved.way_out(GUEST, "tap0", "tap0");
    assert!(way_out.contains("move tap0 back"), "{way_out}");
}

#[test]
fn what_the_kernel_took_out_of_the_map_is_gone_although_nobody_said_so() {
    let ours = seen("tap0", 5, Some(OWN));
    let mut rig = Rig::new();
    for now in [5, 6] {
        rig.paths.unmapped(at(now), GUEST, &mut rig.out);
    }
    assert_eq!(std::mem::take(&mut rig.out), [Do::Look(GUEST)], "once");
    let before = Look { at: at(4), index: 5, there: Some(ours.clone()), ..Look::default() };
    rig.paths.look(at(7), GUEST, &before, &mut rig.out);
    assert!(rig.out.is_empty() && rig.paths.is_whole(), "that look was begun before");
    assert_eq!(rig.look(8, Some(ours.clone()), Some(ours.clone())), [Do::LetGo(GUEST)]);
    assert_eq!(rig.reason(), "guest interface gone");
    // The kernel's word on how it went is better.
    let mut rig = Rig::new();
    rig.paths.unmapped(at(5), GUEST, &mut rig.out);
    rig.out.clear();
    assert_eq!(rig.told(6, Some(Gone::Moved), None, None), [Do::LetGo(GUEST)]);
    assert_eq!(rig.reason(), "guest interface moved");
    // What is shut is not in the map.
    let mut rig = Rig::new();
    rig.look(10, Some(Seen { up: false, ..ours }), None);
    rig.paths.unmapped(at(11), GUEST, &mut rig.out);
    assert!(rig.out.is_empty());
}

#[test]
fn one_that_is_down_or_without_carrier_is_shut_and_opened_again() {
    let mut rig = Rig::new();
    let ours = seen("tap0", 5, Some(OWN));
    assert_eq!(rig.look(10, Some(Seen { up: false, ..ours.clone() }), None), [Do::Shut(GUEST)]);
    assert_eq!(rig.reason(), "guest interface down");
    assert!(rig.look(20, Some(Seen { carrier: false, ..ours.clone() }), None).is_empty());
    assert_eq!(rig.reason(), "guest interface without carrier");
    assert_eq!(rig.paths.of(GUEST).lost, 1, "one loss");
    assert!(!rig.paths.is_lost_for(at(10) + GRACE.mul_f64(0.9), GUEST, GRACE));
    assert!(rig.paths.is_lost_for(at(10) + GRACE, GUEST, GRACE), "since it was set down");
    assert_eq!(rig.look(30, Some(ours.clone()), None), [Do::Open(GUEST)]);
    rig.paths.refused(at(31), GUEST, "gone just now".into());
    assert_eq!(rig.look(40, Some(ours.clone()), None), [Do::Open(GUEST)]);
    rig.paths.opened(at(41), GUEST, &ours);
    assert!(rig.paths.is_whole() && rig.look(50, Some(ours), None).is_empty());
    assert!(!rig.paths.is_lost_for(at(99_999), GUEST, GRACE));
}

#[test]
fn a_program_that_was_taken_off_is_put_back() {
    let mut rig = Rig::new();
    let bare = seen("tap0", 5, None);
    assert_eq!(rig.look(10, Some(bare.clone()), None), [Do::Bare(GUEST)]);
    assert_eq!(rig.reason(), "guest interface without program");
    assert_eq!(rig.look(11, Some(bare.clone()), None), [Do::Attach(GUEST, bare.clone())]);
    rig.paths.opened(at(12), GUEST, &Seen { program: Some(OWN), ..bare.clone() });
    assert!(rig.paths.is_whole());
    // Begun before that, it says nothing.
    let look = Look { at: at(11), index: 5, there: Some(bare.clone()), named: Some(bare), ..Look::default() };
    rig.paths.look(at(13), GUEST, &look, &mut rig.out);
    assert!(rig.out.is_empty() && rig.paths.is_whole());
}

#[test]
fn the_program_of_somebody_else_is_left_alone_until_it_leaves() {
    let mut rig = Rig::new();
    let taken = seen("tap0", 5, Some(3));
    assert_eq!(rig.look(10, Some(taken.clone()), None), [Do::Bare(GUEST)]);
    for now in [20, 30] {
        assert!(rig.look(now, Some(taken.clone()), None).is_empty());
        assert_eq!(rig.reason(), "guest interface taken");
    }
    let way_out = rig.fault().unwrap().way_out(GUEST, "tap0", "tap0");
    assert!(way_out.contains("program 3") && way_out.contains("dev tap0 xdp off"), "{way_out}");
    let bare = Seen { program: None, ..taken };
    assert!(rig.look(40, Some(Seen { up: false, ..bare.clone() }), None).is_empty());
    assert_eq!(rig.reason(), "guest interface down");
    assert_eq!(rig.look(50, Some(bare.clone()), None), [Do::Attach(GUEST, bare.clone())]);
    // Deleted before that is done.
    assert_eq!(rig.look(60, None, None), [Do::LetGo(GUEST)]);
    assert_eq!(rig.reason(), "guest interface gone");
}

#[test]
fn a_look_at_another_interface_says_nothing() {
    let mut rig = Rig::new();
    let look = Look { at: at(10), index: 4, ..Look::default() };
    rig.paths.look(at(10), GUEST, &look, &mut rig.out);
    assert!(rig.out.is_empty() && rig.paths.is_whole());
}

#[test]
fn the_guests_side_is_named_first_and_every_reason_is_one_of_the_list() {
    let mut rig = Rig::new();
    for (side, index) in Side::ALL.into_iter().zip([5, 6]) {
        let look = Look { at: at(1), index, gone: Some(Gone::Deleted), ..Look::default() };
        rig.paths.look(at(1), side, &look, &mut rig.out);
    }
    assert_eq!(rig.reason(), "guest interface gone");
    let all = [
        Fault::Gone,
        Fault::Moved,
        Fault::Down,
        Fault::NoCarrier,
        Fault::NoProgram,
        Fault::Taken(1),
        Fault::Refused(String::new()),
    ];
    for (side, reasons) in Side::ALL.into_iter().zip(REASONS) {
        assert_eq!(all.clone().map(|fault| fault.reason(side)), reasons);
        assert!(reasons.iter().all(|reason| reason.starts_with(side.name())));
        assert!(all.iter().all(|fault| !fault.way_out(side, "a0", "b0").is_empty()));
    }
    assert_eq!(all.map(|fault| fault.word()), Fault::WORDS);
}
