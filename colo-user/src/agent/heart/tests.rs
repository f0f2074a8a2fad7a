//! Two hearts on loopback, with real sockets and threads: who is heard, who is not, and what the packet thread is told.

use super::*;
use crate::agent::packet::{Command, Port, channel};
use std::net::UdpSocket;
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn settings() -> Settings {
    // The limit is longer than a thread waits for a processor.
    Settings { interval: Duration::from_millis(20), multiplier: NonZeroU8::new(100).unwrap() }
}

/// Ports that were free a moment ago.
fn ports() -> [u16; 2] {
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

fn heart([own, peer]: [u16; 2], boot: u64, pair: &str) -> (Heart, Port) {
    let (handle, port) = channel().unwrap();
    let options = Options {
        links: vec![format!("udp:127.0.0.1:{peer}@127.0.0.1:{own}").parse().unwrap()],
        settings: settings(),
        pair: pair.parse().unwrap(),
        boot,
        realtime: 0,
        probe: None,
    };
    (Heart::start(options, handle).unwrap(), port)
}

/// Takes verdicts until one is as wanted.
fn until(heart: &mut Heart, port: &Port, what: &str, wanted: impl Fn(&Verdict) -> bool) -> Option<Reason> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(Command::Peer(verdict)) = port.recv_within(Duration::from_millis(100)) {
            let lost = heart.judged(verdict);
            if wanted(&verdict) {
                return lost;
            }
        }
    }
    panic!("never {what}: {:?}", heart.shown());
}

fn is_alive(verdict: &Verdict) -> bool {
    verdict.state == PeerState::Alive
}

fn says(verdict: &Verdict, wanted: impl Fn(Condition) -> bool) -> bool {
    verdict.condition.is_some_and(wanted)
}

#[test]
fn two_hearts_hear_each_other_and_what_each_says_of_itself() {
    let [a, b] = ports();
    let (mut first, first_port) = heart([a, b], 1, "vm1");
    let (mut second, second_port) = heart([b, a], 2, "vm1");
    assert_eq!(first.elsewhere(), Elsewhere::Unknown);
    until(&mut first, &first_port, "alive", is_alive);
    assert_eq!(first.elsewhere(), Elsewhere::Alive);
    assert!(!first.relieves(Some(5)));
    second.tell(false, Condition { promotable: true, term: 5, ..Condition::default() });
    until(&mut first, &first_port, "promotable", |v| says(v, |c| c.promotable && !c.carrier));
    assert!(!first.relieves(Some(5)), "with an uplink that carries nothing");
    second.tell(false, Condition { promotable: true, carrier: true, term: 5, ..Condition::default() });
    until(&mut first, &first_port, "an uplink", |v| says(v, |c| c.promotable && c.carrier));
    assert!(first.relieves(Some(5)) && !first.relieves(Some(6)) && !first.relieves(None));
    let closed = Condition { primary: true, closed: true, carrier: true, term: 5, ..Condition::default() };
    first.tell(false, closed);
    until(&mut second, &second_port, "closed", |v| says(v, |c| c.closed));
    assert_eq!(second.elsewhere(), Elsewhere::Closed(5));
    second.tell(false, Condition { paused: true, term: 5, ..Condition::default() });
    until(&mut first, &first_port, "paused", |v| v.state == PeerState::Paused);
    assert!(!first.relieves(Some(5)));

    drop(second);
    let lost = until(&mut first, &first_port, "lost", |v| v.state == PeerState::Lost);
    assert_eq!(lost, Some(Reason::PeerSilent));
    assert!(first.is_lost());
    // Another agent in its place, and the data link was with the one before.
    let hello = Hello::plain(crate::link::frame::Role::Secondary, 2_u128.to_be_bytes().map(|b| b));
    assert_eq!(boot_of(hello.boot), 1, "the low half is not what beats bear");
    first.session = Some(2);
    let (_third, _port) = heart([b, a], 3, "vm1");
    let lost = until(&mut first, &first_port, "alive again", is_alive);
    assert_eq!(lost, Some(Reason::PeerLost), "the session's agent is gone");
    let shown = serde_json::to_value(first.shown()).unwrap();
    assert_eq!((&shown["restarts"], &shown["false_alarms"]), (&1.into(), &0.into()), "{shown}");
    assert_eq!(shown["uplink_carrier"], true);
}

#[test]
fn a_peer_of_another_pair_is_nobody_and_counted() {
    let [a, b] = ports();
    let (mut first, port) = heart([a, b], 1, "vm1");
    let (_second, _port) = heart([b, a], 2, "vm2");
    until(&mut first, &port, "lost", |v| v.state == PeerState::Lost);
    // It was never heard: everything is as if there were no such link.
    assert_eq!((first.is_lost(), first.elsewhere()), (false, Elsewhere::Unknown));
    let end = Instant::now() + PATIENCE;
    while first.shown().is_none_or(|shown| shown.refused == 0) {
        assert!(Instant::now() < end, "{:?}", first.shown());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_data_link_is_one_of_the_links() {
    let [a, b] = ports();
    let (mut first, port) = heart([a, b], 1, "vm1");
    first.heard(Mono::now());
    first.tell(true, Condition::default());
    until(&mut first, &port, "alive", is_alive);
    assert_eq!(first.elsewhere(), Elsewhere::Unknown, "the other links never heard it");
    let lost = Protection::Not(Reason::PeerLost);
    assert_eq!(first.name(lost), lost);
    let (second, _port) = heart([b, a], 2, "vm1");
    until(&mut first, &port, "heard", |v| v.condition.is_some());
    first.tell(false, Condition::default());
    assert_eq!(first.name(lost), Protection::Not(Reason::LinkLost));
    assert_eq!(first.name(Protection::Protected), Protection::Protected);
    drop(second);
    until(&mut first, &port, "lost", |v| v.state == PeerState::Lost);
    assert_eq!(first.name(lost), lost);
}

#[test]
fn an_address_that_is_not_here_is_refused_by_name() {
    let (handle, _port) = channel().unwrap();
    let options = Options {
        links: vec!["udp:192.0.2.9:9701@192.0.2.8:9701".parse().unwrap()],
        settings: settings(),
        pair: "vm1".parse().unwrap(),
        boot: 1,
        realtime: 0,
        probe: None,
    };
    let error = Heart::start(options, handle).unwrap_err();
    assert!(error.to_string().contains("cannot listen on 192.0.2.8:9701"), "{error}");
}
