//! A replica that says one other byte: a checkpoint is asked for, it is said what differed, and nothing from that byte
//! on leaves, while other flows go on.

use std::{
    fs,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use colo_tests::lab::{
    agents::{Agents, Options, Role},
    child::Programs,
    load::{self, Load, Work},
    stage::Stage,
    topology::{SERVER_V4, SERVER_V6, Wires},
    witness,
};

const LENGTH: u64 = 3_000_000;
const SEED: u64 = 1 << 60;

static NEVER: AtomicBool = AtomicBool::new(false);

/// One download differs at `offset` while other flows go on.
fn diverge(hold: &str, offset: u64) {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let mut stage = Stage::new(&programs, Wires::Veth).unwrap();
    let signal = stage.path("signal");
    let mut options = Options::patient(&["--hold", hold]);
    options.primary.extend(["--checkpoint".to_owned(), format!("exec:env > {}", signal.display())]);
    let mut agents = Agents::start(&stage, options).unwrap();
    agents.wait_protected(&NEVER).unwrap();
    stage.secondary.differ(&load::path(SEED, LENGTH), offset).unwrap();

    let others = [
        Load::once("download", SERVER_V6, Work::Download { length: 1 << 20, close: false }),
        Load::once("lines", SERVER_V4, Work::Lines { length: 64 }),
        Load::once("datagrams", SERVER_V4, Work::Echo { length: 64 }),
    ]
    .map(|load| Load { at_most: u64::MAX, pause: Duration::from_millis(5), ..load });
    let end = Instant::now() + Duration::from_secs(6);
    let (witnessed, others) = thread::scope(|scope| {
        let others = scope.spawn(|| load::run(&stage.topology.client, &others, end, &NEVER));
        let witnessed = witness::download(&stage, SEED, LENGTH, Duration::from_secs(3), &NEVER).unwrap();
        (witnessed, others.join().unwrap())
    });
    for outcome in others {
        assert!(outcome.done > 0 && outcome.failed == 0, "{outcome:?}");
    }

    let differs = witnessed.received.head + offset;
    assert!(witnessed.error.is_some(), "the client got what only one replica said");
    assert!(witnessed.left.end <= differs, "{witnessed:?}, but the first differing byte is {differs}");
    assert!(
        witnessed.left.end + 65_536 > differs,
        "{witnessed:?}: what precedes byte {differs} did not leave"
    );

    let status = agents.status(Role::Primary).unwrap();
    assert!(status.checkpoints() > 0, "{}", status.json());
    let [divergence] = status.divergences() else { panic!("not one divergence: {}", status.json()) };
    assert_eq!(divergence["kind"], "payload", "{divergence}");
    assert!(divergence["flow"].as_str().unwrap().contains(&witnessed.port.to_string()), "{divergence}");
    let (said, other) = (divergence["primary"].as_str().unwrap(), divergence["secondary"].as_str().unwrap());
    assert_ne!(said, other, "{divergence}");
    let mut expected = vec![0; 1];
    colo_tests::lab::content::fill(SEED, offset, &mut expected);
    let quoted = [format!("{:02x}", expected[0]), format!("{:02x}", expected[0] ^ 0xff)];
    assert_eq!([&said[..2], &other[..2]], [quoted[0].as_str(), quoted[1].as_str()], "{divergence}");
    let environment = fs::read_to_string(&signal).unwrap();
    assert!(environment.contains("COLO_"), "{environment}");
}

#[test]
fn in_the_middle_held_by_af_xdp() {
    diverge("afxdp", 2_000_000);
}

#[test]
fn in_the_middle_held_by_ring_buffer() {
    diverge("ringbuf", 2_000_000);
}

#[test]
fn in_the_last_byte() {
    diverge("afxdp", LENGTH - 1);
}
