//! Programs that outlive their agent: pinned, adopted, left, detached; on taps and veth pairs, native and generic.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use colo_ebpf::ABI_VERSION;
use colo_tests::ends::{Ends, GUEST, Joint, QUIET, UPLINK, capture, numbered};
use colo_tests::lab::child::{Programs, Tethered};
use colo_tests::mounts::without_bpffs;
use colo_user::datapath::{AttachMode, BPFFS, Config, Datapath, HoldBackend, Mode, Role, detach_pinned};

const JOINTS: [(Joint, Joint); 2] = [(Joint::Tap, Joint::Veth), (Joint::Veth, Joint::Veth)];
const BACKENDS: [HoldBackend; 2] = [HoldBackend::Afxdp, HoldBackend::Ringbuf];
const MODES: [AttachMode; 2] = [AttachMode::Native, AttachMode::Skb];

/// Runs `body` for every kind of interface, attach mode and hold backend.
fn everywhere(body: impl Fn(&Ends, &Config) -> Result<()>) {
    for (guest, client) in JOINTS {
        for attach in MODES {
            for backend in BACKENDS {
                let run = || -> Result<()> {
                    let ends = Ends::new(guest, client)?;
                    body(&ends, &ends.config(Role::Primary, attach, backend))?;
                    ends.host.enter(|| detach_pinned(GUEST, UPLINK))?;
                    Ok(())
                };
                run().unwrap_or_else(|error| {
                    panic!("guest on {guest:?}, client on {client:?}, {attach:?}, {backend:?}: {error:?}")
                });
            }
        }
    }
}

fn look(ends: &Ends) -> Result<String> {
    Ok(ends.host.run(&format!("ip -o -d link show {GUEST}"))?
        + &ends.host.run(&format!("ip -o -d link show {UPLINK}"))?)
}

/// Frames go through both ways, in the kernel alone.
fn passes(ends: &Ends, number: u32) -> Result<()> {
    ends.guest.say(&numbered(number, 200))?;
    ensure!(ends.client.hear_exactly(1)? == [numbered(number, 200)], "guest to client");
    ends.client.say(&numbered(number, 300))?;
    ensure!(ends.guest.hear_exactly(1)? == [numbered(number, 300)], "client to guest");
    Ok(())
}

fn refusal(ends: &Ends, config: &Config) -> String {
    match ends.host.enter(|| Datapath::attach(config)) {
        Ok(_) => panic!("{config:?} was attached"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_pinned_goes_on_without_its_agent_and_is_adopted() {
    everywhere(|ends, config| {
        let before = look(ends)?;
        let mut first = ends.attach(config)?;
        let attached = first.attached();
        ensure!(!first.is_adopted());
        first.pin()?;
        first.pin()?;
        first.set_mode(Mode::Pass)?;
        passes(ends, 1)?;
        first.leave()?;
        passes(ends, 2)?;
        ensure!(look(ends)? != before, "nothing is attached any more");

        let second = ends.attach(config)?;
        ensure!(second.is_adopted() && second.attached() == attached, "{:?}", second.attached());
        passes(ends, 3)?;
        // Dropped is left, as when the agent is killed.
        drop(second);
        passes(ends, 4)?;

        // The third protects: what it holds, mirrors and counts begins anew.
        let mut third = ends.attach(config)?;
        passes(ends, 5)?;
        third.set_mode(Mode::Protect)?;
        ends.guest.say(&numbered(6, 200))?;
        let held = capture(&mut third, 1)?.remove(0);
        ensure!(ends.client.hear(QUIET)?.is_none(), "it was not held");
        third.release(held.id);
        third.flush()?;
        ensure!(ends.client.hear_exactly(1)? == [numbered(6, 200)]);
        ends.client.say(&numbered(7, 300))?;
        ensure!(ends.guest.hear_exactly(1)? == [numbered(7, 300)]);
        let mut mirrored = Vec::new();
        third.next_mirrored(|m| mirrored.push((m.index, m.frame.to_vec())));
        ensure!(mirrored == [(0, numbered(7, 300))], "{mirrored:?}");
        let pressure = third.pressure();
        ensure!((pressure.lost, pressure.mirror_lost) == (0, 0), "{pressure:?}");
        third.detach()?;
        ensure!(look(ends)? == before, "not as it was found: {}", look(ends)?);
        ensure!(!ends.host.enter(|| detach_pinned(GUEST, UPLINK))?, "pins were left");
        Ok(())
    });
}

#[test]
fn an_agent_that_protected_and_died_is_followed_by_the_next() {
    everywhere(|ends, config| {
        let mut first = ends.attach(config)?;
        first.pin()?;
        ends.client.say(&numbered(1, 300))?;
        ends.guest.say(&numbered(2, 200))?;
        capture(&mut first, 1)?;
        ends.guest.hear_exactly(1)?;
        drop(first);
        // Nobody is there to hold: nothing slips by.
        ends.guest.say(&numbered(3, 200))?;
        ensure!(ends.client.hear(QUIET)?.is_none(), "a frame left uncompared");
        let mut second = ends.attach(config)?;
        ends.client.say(&numbered(4, 300))?;
        ends.guest.hear_exactly(1)?;
        let mut mirrored = Vec::new();
        second.next_mirrored(|m| mirrored.push((m.index, m.frame.to_vec())));
        ensure!(mirrored == [(0, numbered(4, 300))], "{mirrored:?}");
        ends.guest.say(&numbered(5, 200))?;
        let wanted = if second.backend() == HoldBackend::Ringbuf { 2 } else { 1 };
        let held = capture(&mut second, wanted)?;
        ensure!(second.frame(held[wanted - 1].id) == numbered(5, 200));
        second.detach()?;
        Ok(())
    });
}

#[test]
fn an_agent_that_lives_is_not_adopted() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    let config = ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Auto);
    let mut first = ends.attach(&config)?;
    first.pin()?;
    let error = refusal(&ends, &config);
    ensure!(
        error.contains(GUEST) && error.contains("another colo") && error.contains("colo_guest"),
        "{error}"
    );
    let error = ends.host.enter(|| detach_pinned(GUEST, UPLINK)).expect_err("it lives").to_string();
    ensure!(error.contains("another colo"), "{error}");
    first.set_mode(Mode::Pass)?;
    passes(&ends, 1)?;
    first.detach()?;
    Ok(())
}

#[test]
fn pins_of_another_uplink_are_refused_by_name() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    let config = ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Auto);
    let mut first = ends.attach(&config)?;
    first.pin()?;
    first.leave()?;
    ends.host.run("ip link add other0 type veth peer name other1")?;
    ends.host.run("ip link set other0 up")?;
    let error = refusal(&ends, &Config { uplink: "other0".to_owned(), ..config.clone() });
    ensure!(error.contains(UPLINK) && error.contains("other0") && error.contains("colo detach"), "{error}");
    if HoldBackend::Afxdp == ends.attach(&config)?.backend() {
        let error = refusal(&ends, &Config { hold: HoldBackend::Ringbuf, ..config });
        ensure!(error.contains("--hold afxdp"), "{error}");
    }
    ensure!(ends.host.enter(|| detach_pinned(GUEST, UPLINK))?);
    Ok(())
}

/// The directories of pins that are there now.
fn pins() -> Result<Vec<PathBuf>> {
    let directory = format!("/sys/fs/bpf/colo/v{ABI_VERSION}");
    Ok(std::fs::read_dir(directory)?
        .collect::<std::io::Result<Vec<_>>>()?
        .iter()
        .map(std::fs::DirEntry::path)
        .collect())
}

#[test]
fn pins_of_an_interface_that_is_gone_are_removed() -> Result<()> {
    for gone in [GUEST, UPLINK] {
        let ends = Ends::new(Joint::Veth, Joint::Veth)?;
        let config = ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Auto);
        let mut first = ends.attach(&config)?;
        first.pin()?;
        first.leave()?;
        let index = ends.host.run(&format!("cat /sys/class/net/{GUEST}/ifindex"))?.trim().to_owned();
        let is_ours = |path: &PathBuf| path.to_string_lossy().ends_with(&format!("-{index}"));
        ensure!(pins()?.iter().any(is_ours));
        let ours: Vec<_> = pins()?.into_iter().filter(is_ours).collect();
        ends.host.run(&format!("ip link del {gone}"))?;
        // Any agent that starts on this host tidies up.
        let other = Ends::new(Joint::Tap, Joint::Veth)?;
        drop(other.attach(&other.config(Role::Primary, AttachMode::Auto, HoldBackend::Auto))?);
        // Those of other tests that run now may bear the same index: the one whose interface is gone is not among them.
        let left: Vec<_> = ours.iter().filter(|path| path.exists()).collect();
        ensure!(left.len() < ours.len(), "{gone} is gone, {left:?} left");
        if gone == UPLINK {
            ensure!(!look_at(&ends, GUEST)?.contains("xdp"), "the guest's program was left");
        }
    }
    Ok(())
}

fn look_at(ends: &Ends, interface: &str) -> Result<String> {
    ends.host.run(&format!("ip -o -d link show {interface}"))
}

#[test]
fn the_command_detaches_what_was_left() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    let before = look(&ends)?;
    let mut first = ends.attach(&ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Auto))?;
    first.pin()?;
    first.leave()?;
    let colo = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()).colo;
    let detach = || -> Result<(Option<i32>, String)> {
        let mut command: Command = ends.host.command(colo.to_str().context("path")?);
        let output = command.args(["detach", "--guest", GUEST, "--uplink", UPLINK]).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    let (code, said) = detach()?;
    ensure!(code == Some(0) && said.contains("removed"), "{code:?} {said}");
    ensure!(look(&ends)? == before);
    let (code, said) = detach()?;
    ensure!(code == Some(2) && said.contains("nothing is pinned"), "{code:?} {said}");
    Ok(())
}

#[test]
fn an_uplink_that_filters_addresses_hears_the_guests_without_an_agent() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    // A bridge filters as a NIC does.
    ends.host.run("ip link add filter0 type bridge")?;
    ends.host.run("ip link set filter0 up")?;
    let config = ends.config(Role::Primary, AttachMode::Skb, HoldBackend::Ringbuf);
    let config = Config { uplink: "filter0".to_owned(), ..config };
    let is_promiscuous = || -> Result<bool> {
        Ok(look_at(&ends, "filter0")?.split('>').next().unwrap_or_default().contains("PROMISC"))
    };
    for by_command in [false, true] {
        let mut first = ends.attach(&config)?;
        first.pin()?;
        first.leave()?;
        ensure!(is_promiscuous()?);
        if by_command {
            ensure!(ends.host.enter(|| detach_pinned(GUEST, "filter0"))?);
        } else {
            ends.attach(&config)?.detach()?;
        }
        ensure!(!is_promiscuous()?, "it was left promiscuous");
    }
    Ok(())
}

#[test]
fn without_a_bpffs_nothing_outlives_its_agent_until_one_is_mounted() -> Result<()> {
    without_bpffs(|| {
        let ends = Ends::new(Joint::Tap, Joint::Veth)?;
        let config = ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Auto);
        let mut first = ends.attach(&config)?;
        ensure!(!Datapath::can_pin());
        let refused = first.pin().expect_err("there is nowhere to pin to").to_string();
        let way_out = format!("mount -t bpf bpf {BPFFS}");
        ensure!(refused.contains(BPFFS) && refused.contains(&way_out), "{refused}");
        first.set_mode(Mode::Pass)?;
        passes(&ends, 1)?;
        first.leave()?;
        ends.guest.say(&numbered(2, 200))?;
        ensure!(ends.client.hear(QUIET)?.is_none(), "a program has outlived its agent");

        let mounted = Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]).status()?;
        ensure!(mounted.success() && Datapath::can_pin());
        let mut second = ends.attach(&config)?;
        second.pin()?;
        second.set_mode(Mode::Pass)?;
        second.leave()?;
        passes(&ends, 3)?;
        ensure!(ends.host.enter(|| detach_pinned(GUEST, UPLINK))?);
        Ok(())
    })
}

#[test]
fn an_agent_says_at_its_start_what_is_lost_without_a_bpffs() -> Result<()> {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    for role in ["primary", "secondary"] {
        for (hidden, follows) in [(true, true), (false, true), (true, false)] {
            let ends = Ends::new(Joint::Tap, Joint::Veth)?;
            let directory = tempfile::tempdir()?;
            let path = |name: &str| directory.path().join(name).display().to_string();
            let (peer, qmp, control) = (path("peer"), format!("unix:{}", path("qmp")), path("control"));
            let peer = format!("unix:{peer},server=on");
            let mut words =
                vec![role, "--guest", GUEST, "--uplink", UPLINK, "--peer", &peer, "--control", &control];
            if follows {
                words.extend(["--qmp", &qmp]);
            }
            let words = words.iter().map(ToString::to_string);
            let log = directory.path().join("log");
            // `ip netns exec` gives what it runs a /sys of the namespace's own, in which no bpffs is mounted.
            let colo = programs.colo.display().to_string();
            let hiding = ["netns", "exec", ends.host.name(), &colo].map(str::to_owned).into_iter();
            let mut agent = if hidden {
                let words: Vec<String> = hiding.chain(words).collect();
                Tethered::start(&programs, &ends.host, Path::new("ip"), &words, &log, false)?
            } else {
                let words: Vec<String> = words.collect();
                Tethered::start(&programs, &ends.host, &programs.colo, &words, &log, false)?
            };
            // The line that says that it runs comes after all that it says of its start.
            let end = Instant::now() + Duration::from_secs(30);
            while !agent.log().contains("control socket") {
                ensure!(
                    agent.ended().is_none() && Instant::now() < end,
                    "it does not start: {}",
                    agent.log()
                );
                sleep(Duration::from_millis(20));
            }
            let log = agent.log();
            let said = log.lines().find(|line| line.contains("no bpffs")).unwrap_or_default();
            // One that does not follow its QEMU never goes on alone, and pins nothing.
            ensure!(said.is_empty() != (hidden && follows), "{role}, {hidden}, {follows}: {log}");
            for part in ["WARN", BPFFS, "every connection breaks", "mount -t bpf bpf", "ip netns exec"] {
                ensure!(said.is_empty() || said.contains(part), "{part} is not in {said}");
            }
        }
    }
    Ok(())
}
