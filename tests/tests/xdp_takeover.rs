//! Connections of real TCP stacks that live through a takeover with nobody but the kernel to translate them.
//!
//! Two replicas with stacks of their own are fed the same input by an agent that is no more than the data path and the
//! translator: what the primary says leaves as soon as the secondary has said as much, and nothing is compared. Then the
//! primary is cut off, the entries go into the secondary's map, and the agent is gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use colo_tests::lab::child::Programs;
use colo_tests::lab::stage::Stage;
use colo_tests::lab::topology::{CAPTURE, GUEST, Host, UPLINK, Wires};
use colo_tests::lab::traffic::{self, Kind, Plan};
use colo_user::datapath::{AttachMode, Captured, Config, Datapath, Injected, Mode, Role, detach_pinned};
use colo_user::mono::Mono;
use colo_user::translate::{Direction, Event, Limits, Translator, initial_of};
use colo_user::wire::ether::ethertype;
use colo_user::wire::{Ether, Ip, Seq, TcpFlags, TcpSegment, proto};

static NEVER: AtomicBool = AtomicBool::new(false);
const SOON: Duration = Duration::from_secs(60);
/// How often the pair may fail to get under way. Nothing compares it and nothing checkpoints it: replicas that part in a
/// handshake stay apart, and the connection stands still. What is tried here begins with the takeover.
const ATTEMPTS: u32 = 3;
const UNDER_WAY: &str = "before the takeover";

type Name = ([u8; 16], [u8; 16], u16, u16);

/// What a segment takes for granted: where its data ends, and what it acknowledges.
#[derive(Clone, Copy)]
struct Reach {
    end: Option<Seq>,
    ack: Option<Seq>,
}

/// Whose segment it is and how far it goes.
fn reach(frame: &[u8]) -> Option<(Name, Reach)> {
    let ether = Ether::parse(frame).ok()?;
    if !matches!(ether.ethertype, ethertype::IPV4 | ethertype::IPV6) {
        return None;
    }
    let ip = Ip::parse(frame, ether.payload, ether.ethertype).ok()?;
    let tcp = TcpSegment::parse(&frame[ip.payload..ip.end]).ok().filter(|_| ip.protocol == proto::TCP)?;
    let length = tcp.payload.len() as u32 + u32::from(tcp.flags.has(TcpFlags::FIN));
    // Initial numbers are each guest's own.
    let end = (length != 0 && !tcp.flags.has(TcpFlags::SYN)).then_some(tcp.seq + length);
    let ack = tcp.flags.has(TcpFlags::ACK).then_some(tcp.ack);
    Some(((ip.src, ip.dst, tcp.src_port, tcp.dst_port), Reach { end, ack }))
}

/// Whether `wanted` lies beyond `known`.
fn beyond(wanted: Option<Seq>, known: Option<Seq>) -> bool {
    wanted.is_some_and(|wanted| known.is_none_or(|known| wanted.after(known)))
}

/// Both sides' agents in one.
struct Pair {
    primary: Datapath,
    secondary: Datapath,
    translator: Translator,
    /// How far the secondary has spoken, wire space.
    said: HashMap<Name, Reach>,
    held: Vec<Captured>,
    input: Vec<Vec<u8>>,
}

fn attach(host: &Host, role: Role, mode: AttachMode) -> Result<Datapath> {
    let config = Config { attach: mode, ..Config::new(role, GUEST, UPLINK) };
    Ok(host.netns.enter(|| Datapath::attach(&config))?)
}

impl Pair {
    fn turn(&mut self) -> Result<()> {
        self.primary.wait(&[], &[], Some(Duration::from_millis(1)))?;
        let now = Mono::now();
        while let Some(captured) = self.primary.next_captured() {
            if let Some(initial) = initial_of(self.primary.frame(captured.id)) {
                let _ = self.translator.learn(now, &initial);
            }
            self.held.push(captured);
        }
        let input = &mut self.input;
        while self.primary.next_mirrored(|m| input.push(m.frame.to_vec())) > 0 {}
        for mut frame in std::mem::take(&mut self.input) {
            if self.translator.input(now, &mut frame).forward() {
                self.inject(&frame)?;
            }
            self.events()?;
        }
        while let Some(captured) = self.secondary.next_captured() {
            let frame = self.secondary.frame_mut(captured.id);
            if self.translator.output(now, frame).forward() {
                note(&mut self.said, frame);
            }
            self.secondary.discard(captured.id);
            self.events()?;
        }
        self.secondary.flush()?;
        // What left before the secondary had said it would be acknowledged to one who knows nothing of it, and what was
        // acknowledged before it had it would not come again.
        for captured in std::mem::take(&mut self.held) {
            let waits = reach(self.primary.frame(captured.id)).is_some_and(|(name, reach)| {
                let said = self.said.get(&name).copied().unwrap_or(Reach { end: None, ack: None });
                beyond(reach.end, said.end) || beyond(reach.ack, said.ack)
            });
            if waits {
                self.held.push(captured);
            } else {
                self.primary.release(captured.id);
            }
        }
        self.primary.flush()?;
        Ok(())
    }

    fn inject(&mut self, frame: &[u8]) -> Result<()> {
        let deadline = Instant::now() + SOON;
        while self.secondary.inject(frame)? == Injected::NoCredit {
            ensure!(Instant::now() < deadline, "the secondary reads nothing");
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    fn events(&mut self) -> Result<()> {
        while let Some(event) = self.translator.next_event() {
            match event {
                Event::Forward(Direction::Input, frame) => self.inject(&frame)?,
                Event::Forward(Direction::Output, frame) => note(&mut self.said, &frame),
                other => anyhow::bail!("{other:?}"),
            }
        }
        Ok(())
    }

    /// The primary is gone: what this host knows goes into its map, and it is left alone with it.
    fn take_over(mut self) -> Result<usize> {
        self.turn()?;
        drop(self.primary);
        self.translator.take_over(Mono::now());
        self.secondary.set_translations(self.translator.entries())?;
        self.secondary.set_mode(Mode::Pass)?;
        let translated = self.secondary.translations()?.len();
        self.secondary.pin()?;
        self.secondary.leave()?;
        Ok(translated)
    }
}

fn note(said: &mut HashMap<Name, Reach>, frame: &[u8]) {
    if let Some((name, reach)) = reach(frame) {
        let known = said.entry(name).or_insert(reach);
        if beyond(reach.end, known.end) {
            known.end = reach.end;
        }
        if beyond(reach.ack, known.ack) {
            known.ack = reach.ack;
        }
    }
}

fn live_through(wires: Wires, mode: AttachMode) -> Result<()> {
    let stage = Stage::new(&Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()), wires)?;
    let hosts = &stage.topology;
    let mut pair = Pair {
        primary: attach(&hosts.primary, Role::Primary, mode)?,
        secondary: attach(&hosts.secondary, Role::Secondary, mode)?,
        translator: Translator::new(Limits::default()),
        said: HashMap::new(),
        held: Vec::new(),
        input: Vec::new(),
    };
    let mut plan = Plan::all(0xc010);
    plan.streams.retain(|stream| !matches!(stream.kind, Kind::Burst | Kind::Datagram));
    let cut = AtomicBool::new(false);
    let agent = std::thread::scope(|scope| -> Result<()> {
        let (cut, client) = (&cut, &hosts.client);
        let agent = scope.spawn(move || -> Result<usize> {
            while !cut.load(Ordering::Relaxed) {
                pair.turn()?;
            }
            pair.take_over()
        });
        let (outcome, report) = traffic::run(client, &plan, &NEVER, |control| -> Result<()> {
            let steady = control.wait_steady(SOON);
            client.run(&format!("ip link set {CAPTURE} down"))?;
            cut.store(true, Ordering::Relaxed);
            steady.context(UNDER_WAY)?;
            let translated = agent.join().expect("no panic").context("the agent")?;
            ensure!(translated > plan.streams.len() / 2, "only {translated} connections are translated");
            control.wait_for(10, &control.progress(), SOON).context("with no agent at all")?;
            // The next agent finds it all, first passing on, then protecting: what it holds is in wire space.
            let mut next = attach(&hosts.secondary, Role::Primary, AttachMode::Auto)?;
            ensure!(next.is_adopted());
            control.wait_for(5, &control.progress(), SOON).context("adopted")?;
            next.set_mode(Mode::Protect)?;
            let before = control.progress();
            let deadline = Instant::now() + SOON;
            let mut janitor = Instant::now();
            while control.wait_for(5, &before, Duration::ZERO).is_err() {
                next.wait(&[], &[], Some(Duration::from_millis(1)))?;
                while let Some(captured) = next.next_captured() {
                    next.release(captured.id);
                }
                while next.next_mirrored(|_| {}) > 0 {}
                next.flush()?;
                if janitor.elapsed() > Duration::from_millis(100) {
                    next.forget_closed(Mono::now())?;
                    janitor = Instant::now();
                }
                ensure!(
                    Instant::now() < deadline,
                    "nothing goes on while it protects: {:?}",
                    next.counters()
                );
            }
            next.set_mode(Mode::Pass)?;
            ensure!(next.counters().get("guest_translated") > Some(100), "{:?}", next.counters());
            ensure!(next.counters().get("guest_untranslatable") == Some(0), "{:?}", next.counters());
            next.leave()?;
            control.wait_for(5, &control.progress(), SOON).context("left again")
        });
        println!("{}", report.table());
        outcome?;
        ensure!(report.broken().is_empty() && report.lost() == 0, "{:?}", report.broken());
        Ok(())
    });
    let detached = hosts.secondary.netns.enter(|| detach_pinned(GUEST, UPLINK));
    agent?;
    ensure!(detached?, "nothing was pinned");
    Ok(())
}

#[test]
fn connections_live_on_with_the_kernel_alone() -> Result<()> {
    for (wires, mode) in [
        (Wires::Veth, AttachMode::Native),
        (Wires::TapGuest, AttachMode::Skb),
        (Wires::Tagged(100), AttachMode::Native),
    ] {
        let mut attempt = 1;
        loop {
            match live_through(wires, mode) {
                Err(error) if error.to_string() == UNDER_WAY && attempt < ATTEMPTS => {
                    eprintln!("{wires:?}, {mode:?}, attempt {attempt}: {error:#}");
                    attempt += 1;
                }
                other => break other.with_context(|| format!("{wires:?}, {mode:?}"))?,
            }
        }
    }
    Ok(())
}
