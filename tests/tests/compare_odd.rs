//! TCP that contradicts itself, through `colo compare` as a process and through `colo diff`: what both guests say alike leaves,
//! what only one says stays. The comparator's own tests have more of each kind.

use std::{fs, process::Command, time::Duration};

use colo_tests::{
    captures::save,
    lab::child::Programs,
    oracle::{Options, Program, Running},
    samples::tcp,
};
use colo_user::wire::{
    TcpFlags,
    build::{Tcp, Wrap},
};
use serde_json::Value;

const SYN: TcpFlags = TcpFlags::SYN;
const FIN: TcpFlags = TcpFlags::FIN;
const RST: TcpFlags = TcpFlags::RST;
const URG: TcpFlags = TcpFlags(0x20);

const MSS: [u8; 4] = [2, 4, 5, 180];
const FULL: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
const FAST_OPEN: [u8; 10] = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8];

/// After this a lone frame asks for a checkpoint.
const LATE: Duration = Duration::from_millis(300);

/// How long a request may take to come, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// What both guests say, and what comes of it.
struct Row {
    name: &'static str,
    primary: Vec<Tcp>,
    secondary: Vec<Tcp>,
    /// The primary's segments that stay.
    stay: Vec<usize>,
}

fn at(seq: u32, data: &[u8]) -> Tcp {
    tcp().seq(seq).data(data)
}

/// Both guests say this.
fn alike(name: &'static str, said: Vec<Tcp>) -> Row {
    Row { name, primary: said.clone(), secondary: said, stay: Vec::new() }
}

fn rows() -> Vec<Row> {
    let hello = || at(1000, b"hello");
    let keep_alive = || at(1004, b"\0");
    let full = || tcp().seq(100).flag(SYN).options(&FULL);
    let short = || tcp().seq(100).flag(SYN).options(&MSS);
    // A guest that opens has nothing to acknowledge.
    let opens = |options: &[u8]| Tcp { ack: None, ..tcp().seq(100).flag(SYN).options(options) };
    let reset = |data: &[u8]| at(1005, data).flag(RST);
    let differ = |name, primary: Vec<Tcp>, secondary: Vec<Tcp>, stay: &[usize]| Row {
        name,
        primary,
        secondary,
        stay: stay.to_vec(),
    };
    vec![
        alike("keep-alive with a garbage octet", vec![hello(), keep_alive(), at(1005, b"world")]),
        differ(
            "keep-alive of the primary alone",
            vec![hello(), keep_alive(), at(1005, b"world")],
            vec![hello(), at(1005, b"world")],
            &[],
        ),
        differ(
            "keep-alive of the secondary alone",
            vec![hello(), at(1005, b"world")],
            vec![hello(), keep_alive(), at(1005, b"world")],
            &[],
        ),
        alike("keep-alive after a SYN-ACK", vec![short(), at(100, b"\0"), at(101, b"x")]),
        alike("FIN below its data", vec![at(1000, &[7; 59]), at(1000, b"").flag(FIN)]),
        alike("FIN at two places", vec![at(1000, b"").flag(FIN), at(1001, b"").flag(FIN)]),
        alike("other bytes at the same place", vec![at(1000, b"aaaa"), at(1000, b"bbbb"), at(1004, b"cc")]),
        differ(
            "other bytes of the primary alone",
            vec![at(1000, b"aaaa"), at(1000, b"bbbb"), at(1004, b"cc")],
            vec![at(1000, b"aaaa"), at(1004, b"cc")],
            &[1, 2],
        ),
        alike("SYN-ACK with fewer options", vec![full(), short()]),
        alike("Fast Open, then plain", vec![opens(&FAST_OPEN).data(b"GET /"), opens(&MSS)]),
        alike("simultaneous open", vec![opens(&MSS), short()]),
        differ("SYN-ACK of the primary alone", vec![full(), short()], vec![short()], &[0, 1]),
        alike("RST with data", vec![hello(), reset(b"secret")]),
        differ("RST with other data", vec![hello(), reset(b"secret")], vec![hello(), reset(b"public")], &[1]),
        differ(
            "RST with data against none",
            vec![hello(), reset(b"secret")],
            vec![hello(), reset(b"")],
            &[1],
        ),
        differ("SYN and FIN against SYN", vec![opens(&MSS).flag(FIN)], vec![opens(&MSS)], &[0]),
        alike("a lone RST with FIN", vec![Tcp { ack: None, ..at(1000, b"").flag(RST).flag(FIN).flag(URG) }]),
    ]
}

/// The secondary's stack picks other identifications, hop counts and windows.
fn otherwise(said: &[Tcp]) -> Vec<Vec<u8>> {
    let wrap = Wrap { id: 4711, ttl: 9, ..Wrap::default() };
    said.iter().map(|segment| Tcp { window: 99, ..segment.clone() }.frame_in(&wrap)).collect()
}

fn programs() -> Programs {
    Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref())
}

#[test]
fn compare_lets_out_what_both_say_and_nothing_else() {
    for row in rows() {
        for primary_first in [true, false] {
            let options = Options { compare_timeout: LATE.as_millis() as u32, ..Options::default() };
            let mut running = Running::start(&Program::Colo(programs().colo), &options).expect("colo starts");
            let primary: Vec<Vec<u8>> = row.primary.iter().map(Tcp::frame).collect();
            let secondary = otherwise(&row.secondary);
            if primary_first {
                primary.iter().for_each(|frame| running.p(frame));
                secondary.iter().for_each(|frame| running.s(frame));
            } else {
                secondary.iter().for_each(|frame| running.s(frame));
                primary.iter().for_each(|frame| running.p(frame));
            }
            let expected: Vec<&Vec<u8>> = primary
                .iter()
                .enumerate()
                .filter(|(n, _)| !row.stay.contains(n))
                .map(|(_, frame)| frame)
                .collect();
            let left = running.released(expected.len(), SOON);
            assert_eq!(left.iter().collect::<Vec<_>>(), expected, "{}", row.name);
            // That nothing is asked shows only when the time for it has passed.
            let wait = if row.stay.is_empty() { 3 * LATE } else { SOON };
            let asked = !running.notices(1, wait).is_empty();
            assert_eq!(asked, !row.stay.is_empty(), "{}", row.name);
            assert_eq!(running.released(1, Duration::from_millis(1)), Vec::<Vec<u8>>::new(), "{}", row.name);
        }
    }
}

#[test]
fn diff_finds_those_identical_and_these_diverged() {
    let dir = tempfile::tempdir().expect("a folder");
    let (p, s) = (dir.path().join("p.pcap"), dir.path().join("s.pcap"));
    for row in rows() {
        save(&p, &row.primary.iter().map(Tcp::frame).collect::<Vec<_>>()).expect("written");
        save(&s, &otherwise(&row.secondary)).expect("written");
        let output = Command::new(programs().colo)
            .arg("diff")
            .args([&p, &s])
            .arg("--json")
            .output()
            .expect("colo diff runs");
        let report: Value = serde_json::from_slice(&output.stdout).expect("an object");
        let verdict = if row.stay.is_empty() { "identical" } else { "diverged" };
        assert_eq!(report["verdict"], verdict, "{}: {report}", row.name);
        assert_eq!(report["held"], row.stay.len(), "{}: {report}", row.name);
    }
    fs::remove_dir_all(dir.path()).expect("removed");
}
