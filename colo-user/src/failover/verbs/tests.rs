use super::*;
use std::collections::HashSet;

#[test]
fn every_verb_is_found_by_its_word() {
    for verb in Verb::all(true) {
        assert_eq!(Verb::named(verb.word(), true), Some(verb));
    }
    assert_eq!(Verb::named("promote", false), Some(Verb::Promote { force: false }));
    assert_eq!(Verb::named("dance", false), None);
    assert!(
        Verb::Promote { force: true }.risk().is_some() && Verb::Promote { force: false }.risk().is_none()
    );
}

#[test]
fn every_refusal_says_why_and_what_else_to_do() {
    let refusals = [
        Refusal::NoQemu,
        Refusal::Busy(Verb::Pause),
        Refusal::OtherSide,
        Refusal::VmUnknown,
        Refusal::PeerThere,
        Refusal::AwaitsCheckpoint,
        Refusal::NoState,
        Refusal::Stale,
        Refusal::Unconfirmed,
        Refusal::TranslationLost,
        Refusal::Closed(Why::Demoted),
        Refusal::NotInSync(Standing::Holding, Why::PeerLost),
        Refusal::NoJudge,
        Refusal::Unfenced,
        Refusal::JudgeUnreachable("gone".into()),
        Refusal::JudgeSaidNo,
        Refusal::TermUnknown,
        Refusal::NotPaused(Standing::Alone),
        Refusal::NotAlone(Standing::Protected, Why::InSync),
        Refusal::NoPath,
    ];
    assert_eq!(refusals.each_ref().map(Refusal::word), Refusal::WORDS);
    let texts: HashSet<String> = refusals.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), refusals.len());
    assert!(refusals.iter().all(|refusal| !refusal.way_out().is_empty()));
}

#[test]
fn a_rehearsal_fails_by_the_check_that_fails() {
    let config = Config {
        judged: true,
        vm_limit: Duration::from_secs(2),
        lease: Duration::from_secs(4),
        before: vec![crate::qmp::command::nbd_server_stop().call],
    };
    let at = |stands, judge: &Prospect, path| {
        let context = Context { judge: judge.clone(), fresh: 0, path };
        Rehearsal::new(stands, config.lease, &config, &context, "the takeover")
    };
    let with = |stands, judge: &Prospect| at(stands, judge, true);
    let well = (Standing::Protected, Why::InSync);
    let good = with(well, &Prospect::Reachable);
    assert!(good.possible() && good.would == "the secondary takes over");
    assert!(good.checks.iter().any(|check| check.name == "lease" && check.text.contains("5s")), "{good:?}");
    assert!(good.checks.iter().any(|check| check.name == "disk" && check.text.contains("nbd-server-stop")));
    let unknown = with(well, &Prospect::Unknown("a command".into()));
    assert!(unknown.possible() && unknown.would.ends_with("if the judge says yes"));
    for (stands, judge, name) in [
        ((Standing::Protected, Why::AwaitsCheckpoint), Prospect::Reachable, "pair"),
        ((Standing::Paused, Why::Paused), Prospect::Reachable, "pair"),
        (well, Prospect::None, "judge"),
        (well, Prospect::Unreachable("gone".into()), "judge"),
    ] {
        let bad = with(stands, &judge);
        assert!(!bad.possible() && bad.would.contains("stands still"));
        let failed: Vec<_> = bad.checks.iter().filter(|check| check.ok == Some(false)).collect();
        assert!(failed.len() == 1 && failed[0].name == name, "{bad:?}");
    }
    let bad = at(well, &Prospect::Reachable, false);
    assert!(
        !bad.possible() && bad.checks.iter().all(|check| check.ok == Some(check.name != "path")),
        "{bad:?}"
    );
}
