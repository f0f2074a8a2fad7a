//! The program that answers for a host, by itself on made-up frames (BPF_PROG_TEST_RUN), and between two agents of which one is
//! stopped, killed, or cut off.

use std::{
    net::SocketAddr,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use anyhow::Result;
use aya::{TestRun as _, TestRunOptions};
use colo_ebpf::liveness::{ANSWER, LEN, MAGIC, QUESTION, VERSION};
use colo_tests::lab::{
    agents::{Agents, Options, Role},
    child::Programs,
    stage::Stage,
    topology::Wires,
};
use colo_user::datapath::Answerer;
use colo_user::mono::Mono;
use colo_user::wire::{
    Vlans,
    build::{Wrap, udp_frame},
};
use rustix::process::Signal;
use serde_json::Value;

const PASS: u32 = 2;
const TX: u32 = 3;
const PORT: u16 = 9701;
const BOOT: u64 = 0x0102_0304_0506_0708;
const PATIENCE: Duration = Duration::from_secs(20);

static NEVER: AtomicBool = AtomicBool::new(false);

fn question(nonce: u64) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    bytes[..4].copy_from_slice(&MAGIC);
    (bytes[4], bytes[5]) = (VERSION, QUESTION);
    bytes[8..16].copy_from_slice(&nonce.to_be_bytes());
    bytes
}

fn ends(v6: bool) -> [SocketAddr; 2] {
    let [asks, answers] =
        if v6 { ["[fd00::1]:40001", "[fd00::2]:9701"] } else { ["192.0.2.1:40001", "192.0.2.2:9701"] };
    [asks, answers].map(|end| end.parse().unwrap())
}

fn run(answerer: &mut Answerer, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
    let mut out = vec![0; frame.len()];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        repeat: 1,
        ..TestRunOptions::default()
    };
    let result = answerer.program()?.test_run(options)?;
    out.truncate(result.data_size_out as usize);
    Ok((result.return_value, out))
}

#[test]
fn a_probe_is_turned_around_with_the_age_of_the_stamp() -> Result<()> {
    let mut answerer = Answerer::load(BOOT, vec![PORT])?;
    let age = Duration::from_secs(3);
    let long_ago = Mono::from_nanos(Mono::now().as_nanos() - age.as_nanos() as u64);
    answerer.stamp(long_ago)?;
    for v6 in [false, true] {
        for unfinished in [false, true] {
            let [asks, answers] = ends(v6);
            let there = Wrap { ttl: 3, ..Wrap::default() };
            let mut frame = udp_frame(asks, answers, &question(77), &there);
            if unfinished {
                let at = if v6 { 14 + 40 + 6 } else { 14 + 20 + 6 };
                frame[at..at + 2].copy_from_slice(&[0x12, 0x34]);
            }
            let (verdict, out) = run(&mut answerer, &frame)?;
            assert_eq!(verdict, TX);
            let payload = out[out.len() - LEN..].to_vec();
            let told = Duration::from_nanos(u64::from_be_bytes(payload[16..24].try_into()?));
            assert!(told >= age && told < age + PATIENCE, "{told:?}");
            assert_eq!((payload[5], &payload[8..16]), (ANSWER, &77_u64.to_be_bytes()[..]));
            assert_eq!(payload[24..], BOOT.to_be_bytes());
            // As whoever answers would have made it, checksums and all.
            let back = Wrap { dst_mac: there.src_mac, src_mac: there.dst_mac, ttl: 64, ..there };
            assert_eq!(
                out,
                udp_frame(answers, asks, &payload, &back),
                "IPv6: {v6}, unfinished: {unfinished}"
            );
        }
    }
    Ok(())
}

#[test]
fn everything_else_goes_on_untouched() -> Result<()> {
    let mut answerer = Answerer::load(BOOT, vec![PORT])?;
    for v6 in [false, true] {
        let [asks, answers] = ends(v6);
        let probe = |payload: &[u8]| udp_frame(asks, answers, payload, &Wrap::default());
        let with = |at: usize, byte: u8| {
            let mut payload = question(1);
            payload[at] = byte;
            probe(&payload)
        };
        let elsewhere = SocketAddr::new(answers.ip(), PORT + 1);
        let ip = 14;
        let mut fragment = probe(&question(1));
        if v6 {
            fragment[ip + 6] = 44;
        } else {
            fragment[ip + 6] = 0x20;
        }
        let mut tcp = probe(&question(1));
        tcp[ip + if v6 { 6 } else { 9 }] = 6;
        let frames = [
            with(0, b'X'),
            with(4, VERSION + 1),
            with(5, ANSWER),
            probe(&question(1)[..LEN - 1]),
            probe(&[question(1), vec![0]].concat()),
            udp_frame(asks, elsewhere, &question(1), &Wrap::default()),
            udp_frame(asks, answers, &question(1), &Wrap { vlans: Vlans::stacked(&[7]), ..Wrap::default() }),
            fragment,
            tcp,
        ];
        for (number, frame) in frames.iter().enumerate() {
            assert_eq!(run(&mut answerer, frame)?, (PASS, frame.clone()), "frame {number}, IPv6: {v6}");
        }
        let whole = probe(&question(1));
        for cut in 14..whole.len() {
            assert_eq!(run(&mut answerer, &whole[..cut])?.0, PASS, "{cut} bytes");
        }
    }
    Ok(())
}

fn heartbeat(agents: &mut Agents, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let status = agents.wait_for(what, PATIENCE, &NEVER, |status| wanted(&status.json()["heartbeat"]));
    status.unwrap().json()["heartbeat"].clone()
}

#[test]
fn a_starved_agent_is_told_from_one_that_ended_and_from_a_dead_host() {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let stage = Stage::new(&programs, Wires::Veth).unwrap();
    let (primary, secondary) = (&stage.topology.primary.netns, &stage.topology.secondary.netns);
    primary.veth("beat0", secondary, "beat0").unwrap();
    primary.run("ip addr add 10.98.0.1/24 dev beat0").unwrap();
    secondary.run("ip addr add 10.98.0.2/24 dev beat0").unwrap();
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut options = Options::patient(&[]);
    options.both =
        words("--pair lab --heartbeat-interval 20 --heartbeat-multiplier 25 --heartbeat-probe beat0");
    options.primary.extend(words("--heartbeat udp:10.98.0.2:9701"));
    options.secondary.extend(words("--heartbeat udp:10.98.0.1:9701"));
    let mut agents = Agents::start(&stage, options).unwrap();
    agents.wait_protected(&NEVER).unwrap();
    heartbeat(&mut agents, "the host's answer", |shown| shown["host"] == "alive" && shown["peer"] == "alive");

    agents.process(Role::Secondary).signal(Signal::STOP).unwrap();
    let stopped = Instant::now();
    let shown = heartbeat(&mut agents, "the loss of the agent", |shown| {
        shown["peer"] == "lost" && shown["agent_age_ms"].as_u64() > Some(2000)
    });
    assert_eq!(shown["host"], "alive", "{shown}");
    assert!(shown["agent_age_ms"].as_u64() <= Some(stopped.elapsed().as_millis() as u64 + 500), "{shown}");

    stage.topology.secondary.netns.run("ip link set beat0 down").unwrap();
    let shown = heartbeat(&mut agents, "the loss of the host", |shown| shown["host"] == "silent");
    assert_eq!((&shown["peer"], &shown["agent_age_ms"]), (&"lost".into(), &Value::Null), "{shown}");
    stage.topology.secondary.netns.run("ip link set beat0 up").unwrap();
    heartbeat(&mut agents, "the host again", |shown| shown["host"] == "alive");

    agents.process(Role::Secondary).kill();
    // The primary's agent goes on; asked apart, for the other one has ended.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = agents.status(Role::Primary).unwrap().json()["heartbeat"].clone();
        if shown["host"] == "no agent" {
            break;
        }
        assert!(Instant::now() < deadline, "{shown}");
    }
}
