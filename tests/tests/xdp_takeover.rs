//! Connections of real TCP stacks that live through a takeover with nobody but the kernel to translate them.
//!
//! Two replicas with stacks of their own are fed the same input by an agent that is no more than the data path, the
//! translator and the comparator. Then the primary is cut off, the entries go into the secondary's map, and the agent is gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use colo_tests::lab::child::Programs;
use colo_tests::lab::stage::Stage;
use colo_tests::lab::topology::{CAPTURE, GUEST, Host, UPLINK, Wires};
use colo_tests::lab::traffic::{self, Kind, Plan};
use colo_user::compare::{self, Action, Comparator, Policy, Token};
use colo_user::datapath::{AttachMode, Config, Datapath, FrameId, Injected, Mode, Role, detach_pinned};
use colo_user::mono::Mono;
use colo_user::translate::{Direction, Event, Limits, Translator, initial_of};

static NEVER: AtomicBool = AtomicBool::new(false);
const SOON: Duration = Duration::from_secs(60);
/// How often the pair may fail to get under way. Nothing checkpoints it: replicas that part in a handshake stay apart, and the
/// connection stands still. What is tried here begins with the takeover.
const ATTEMPTS: u32 = 3;
const UNDER_WAY: &str = "before the takeover";

/// Both sides' agents in one.
struct Pair {
    primary: Datapath,
    secondary: Datapath,
    translator: Translator,
    comparator: Comparator,
    /// Frames of the primary that have not left, by token.
    held: HashMap<u64, FrameId>,
    tokens: u64,
    input: Vec<Vec<u8>>,
    actions: Vec<Action>,
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
            self.tokens += 1;
            self.held.insert(self.tokens, captured.id);
            let frame = self.primary.frame(captured.id);
            self.comparator.primary(now, Token(self.tokens), frame, &mut self.actions);
        }
        let input = &mut self.input;
        while self.primary.next_mirrored(|m| input.push(m.frame.to_vec())) > 0 {}
        for mut frame in std::mem::take(&mut self.input) {
            self.comparator.client(now, &frame);
            if self.translator.input(now, &mut frame).forward() {
                self.inject(&frame)?;
            }
            self.events()?;
        }
        while let Some(captured) = self.secondary.next_captured() {
            let frame = self.secondary.frame_mut(captured.id);
            if self.translator.output(now, frame).forward() {
                self.comparator.secondary(now, frame, &mut self.actions);
            }
            self.secondary.discard(captured.id);
            self.events()?;
        }
        self.secondary.flush()?;
        self.comparator.tick(now, &mut self.actions);
        self.let_out();
        self.primary.flush()?;
        Ok(())
    }

    fn let_out(&mut self) {
        for action in self.actions.drain(..) {
            match action {
                Action::Window(token, window) => self.primary.set_window(self.held[&token.0], window),
                Action::Release(token) => {
                    let id = self.held.remove(&token.0).expect("it is held");
                    self.primary.release(id);
                }
                Action::Drop(token) => {
                    let id = self.held.remove(&token.0).expect("it is held");
                    self.primary.discard(id);
                }
                Action::Emit(frame) => {
                    // The guest says again what finds no room.
                    self.primary.emit(&frame);
                }
                // There is nobody who could make one.
                Action::Checkpoint(_) => {}
            }
        }
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
                Event::Forward(Direction::Output, frame) => {
                    self.comparator.secondary(Mono::now(), &frame, &mut self.actions);
                }
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

fn live_through(wires: Wires, mode: AttachMode) -> Result<()> {
    let stage = Stage::new(&Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()), wires)?;
    let hosts = &stage.topology;
    let policy = Policy {
        emit_solicitations: true,
        emit_acknowledgements: true,
        narrow_windows: true,
        ..Policy::default()
    };
    let mut pair = Pair {
        primary: attach(&hosts.primary, Role::Primary, mode)?,
        secondary: attach(&hosts.secondary, Role::Secondary, mode)?,
        translator: Translator::new(Limits::default()),
        comparator: Comparator::new(policy, compare::Limits::default(), Mono::now()),
        held: HashMap::new(),
        tokens: 0,
        input: Vec::new(),
        actions: Vec::new(),
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
