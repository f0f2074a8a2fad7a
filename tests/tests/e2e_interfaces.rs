//! The interfaces of two agents go, come back, and are made useless, under traffic: each side says which and why, neither says
//! *protected* meanwhile, what is right again is used again by itself, and every connection goes on with the right bytes.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use colo_tests::{
    lab::{
        agents::{Agents, Options, Role, Status},
        child::Programs,
        stage::Stage,
        topology::{CAPTURE, CAPTURE_SECONDARY, GUEST, Host, UPLINK, Wires},
        traffic::{self, Control, Kind, Plan},
    },
    netns::Netns,
    stranger,
};
use rustix::process::Signal;
use serde_json::Value;

/// How long anything may take, on a machine that is busy; what is printed is what it took.
const PATIENCE: Duration = Duration::from_secs(30);
const SEED: u64 = 0x1face;
const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];
const SIDES: [&str; 2] = [GUEST, UPLINK];

static NEVER: AtomicBool = AtomicBool::new(false);

struct Lab {
    agents: Agents,
    stage: Stage,
}

impl Lab {
    fn new() -> Self {
        let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
        let stage = Stage::new(&programs, Wires::Veth).unwrap();
        let mut agents = Agents::start(&stage, Options::patient(&[])).unwrap();
        agents.wait_protected(&NEVER).unwrap();
        Self { agents, stage }
    }

    fn host(&self, role: Role) -> &Host {
        match role {
            Role::Primary => &self.stage.topology.primary,
            Role::Secondary => &self.stage.topology.secondary,
        }
    }

    /// Runs a command on a host.
    fn on(&self, role: Role, line: &str) -> Result<()> {
        self.host(role).netns.run(line).map(drop)
    }

    /// Makes an interface anew that is gone.
    fn plug(&self, role: Role, interface: &str) -> Result<()> {
        let port = if role == Role::Primary { CAPTURE } else { CAPTURE_SECONDARY };
        match interface {
            GUEST => self.host(role).plug_guest(),
            _ => self.host(role).plug_uplink(&self.stage.topology.client, port),
        }
    }

    fn until(&mut self, role: Role, what: &str, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        let begun = Instant::now();
        let status = self.agents.wait_for_of(role, what, PATIENCE, &NEVER, wanted)?;
        println!("{} says {what} after {:?}", role.name(), begun.elapsed());
        Ok(status)
    }

    /// Waits until a side says for this reason that it is not protected, and names the interface.
    fn says(&mut self, role: Role, interface: &str, reason: &str) -> Result<Status> {
        let status = self.until(role, reason, |status| status.json()["reason"] == reason)?;
        ensure!(!status.is_protected(), "{}", status.json());
        let shown = shown(&status, interface);
        ensure!(shown["given"] == interface && shown["state"] != "whole", "{shown}");
        ensure!(shown["way_out"].as_str().is_some_and(|text| text.contains(interface)), "{shown}");
        Ok(status)
    }

    /// Waits until both are protected.
    fn protected(&mut self) -> Result<()> {
        for role in ROLES {
            self.until(role, "protected", Status::is_protected)?;
        }
        Ok(())
    }

    /// Does something to each interface of each side that makes it useless, checks what is said, and makes it right again: every
    /// connection goes on.
    fn each(
        &mut self,
        reasons: [&str; 2],
        harm: impl Fn(&mut Self, Role, &str) -> Result<()>,
        mend: impl Fn(&mut Self, Role, &str) -> Result<()>,
    ) {
        let client = std::sync::Arc::clone(&self.stage.topology.client);
        let (done, report) = traffic::run(&client, &plan(), &NEVER, |control| -> Result<()> {
            control.wait_steady(PATIENCE)?;
            for role in ROLES {
                for (interface, reason) in SIDES.into_iter().zip(reasons) {
                    let lost = lost(&self.agents.status(role)?, interface)?;
                    harm(self, role, interface)?;
                    let status = self.says(role, interface, reason)?;
                    ensure!(self::lost(&status, interface)? == lost + 1, "{}", status.json());
                    self.other_says(role, interface)?;
                    mend(self, role, interface)?;
                    self.protected()?;
                    goes_on(control)?;
                }
            }
            Ok(())
        });
        let broken = report.broken();
        assert!(
            done.is_ok() && broken.is_empty(),
            "{done:?}; {broken:?}\n{}{}",
            report.table(),
            self.agents.logs()
        );
    }

    /// What the other side makes of it.
    fn other_says(&mut self, role: Role, interface: &str) -> Result<()> {
        match (role, interface) {
            // A secondary without its guest leaves; the primary goes on without, as it was told to.
            (Role::Secondary, GUEST) => {
                self.until(Role::Primary, "peer left", |status| {
                    matches!(status.json()["reason"].as_str(), Some("peer left" | "connecting" | "syncing"))
                })?;
            }
            (Role::Primary, _) => {
                self.until(Role::Secondary, "peer without path", pathless)?;
            }
            (Role::Secondary, _) => {
                self.until(Role::Primary, "peer without path", pathless)?;
            }
        }
        Ok(())
    }
}

fn pathless(status: &Status) -> bool {
    status.json()["reason"] == "peer without path" && !status.is_protected()
}

fn shown<'a>(status: &'a Status, interface: &str) -> &'a Value {
    &status.json()["interfaces"][if interface == GUEST { "guest" } else { "uplink" }]
}

fn lost(status: &Status, interface: &str) -> Result<u64> {
    status.count(if interface == GUEST { "guest_lost" } else { "uplink_lost" })
}

fn restored(status: &Status, interface: &str) -> u64 {
    status.count(if interface == GUEST { "guest_restored" } else { "uplink_restored" }).unwrap_or(0)
}

/// Connections that are kept, and new ones all the while; small, for what a guest has lost comes again by timers.
fn plan() -> Plan {
    let mut plan = Plan::all(SEED);
    plan.streams.retain(|stream| matches!(stream.kind, Kind::Lines | Kind::Short | Kind::Idle));
    plan.streams.iter_mut().for_each(|stream| stream.pause = stream.pause.max(Duration::from_millis(20)));
    plan.patience = Duration::from_secs(120);
    plan
}

fn goes_on(control: &Control<'_>) -> Result<()> {
    control.wait_for(3, &control.progress(), PATIENCE * 2)
}

#[test]
fn one_that_is_deleted_and_made_anew() {
    let mut lab = Lab::new();
    lab.each(
        ["guest interface gone", "uplink gone"],
        |lab, role, interface| lab.on(role, &format!("ip link del {interface}")),
        |lab, role, interface| lab.plug(role, interface),
    );
}

#[test]
fn one_that_is_set_down_and_up_again() {
    let mut lab = Lab::new();
    lab.each(
        ["guest interface down", "uplink down"],
        |lab, role, interface| lab.on(role, &format!("ip link set {interface} down")),
        |lab, role, interface| lab.on(role, &format!("ip link set {interface} up")),
    );
}

#[test]
fn one_that_is_moved_away_and_back() {
    let mut lab = Lab::new();
    let elsewhere = Netns::new("colo-elsewhere").unwrap();
    let there = elsewhere.name().to_owned();
    lab.each(
        ["guest interface moved", "uplink moved"],
        |lab, role, interface| lab.on(role, &format!("ip link set {interface} netns {there}")),
        |lab, role, interface| {
            ensure!(stranger::program_on(&elsewhere, interface)?.is_none(), "our program is on it still");
            elsewhere.run(&format!("ip link set {interface} netns {}", lab.host(role).netns.name()))?;
            lab.on(role, &format!("ip link set {interface} up"))
        },
    );
}

#[test]
fn one_whose_other_end_is_gone() {
    let mut lab = Lab::new();
    let peer = |lab: &Lab, role: Role, interface: &str, state: &str| {
        let port = if role == Role::Primary { CAPTURE } else { CAPTURE_SECONDARY };
        let (namespace, peer) = match interface {
            GUEST => (&lab.host(role).guest, "eth0"),
            _ => (&*lab.stage.topology.client, port),
        };
        namespace.run(&format!("ip link set {peer} {state}"))?;
        // Addresses of IPv6 leave with it.
        if interface == GUEST && state == "up" {
            namespace.run("ip addr replace 2001:db8::2/64 dev eth0 nodad")?;
        }
        Ok(())
    };
    lab.each(
        ["guest interface without carrier", "uplink without carrier"],
        |lab, role, interface| peer(lab, role, interface, "down"),
        |lab, role, interface| peer(lab, role, interface, "up"),
    );
}

/// The agent stands still for so long that it finds both at once: ours is gone, and theirs is there.
#[test]
fn one_whose_program_was_replaced() {
    let mut lab = Lab::new();
    let theirs = std::cell::RefCell::new(None);
    lab.each(
        ["guest interface taken", "uplink taken"],
        |lab, role, interface| {
            lab.agents.process(role).signal(Signal::STOP)?;
            stranger::take_off(&lab.host(role).netns, interface)?;
            let link = stranger::attach(&lab.host(role).netns, interface, stranger::NATIVE)?;
            let id = stranger::program_on(&lab.host(role).netns, interface)?;
            lab.agents.process(role).signal(Signal::CONT)?;
            theirs.replace(Some((link, id)));
            Ok(())
        },
        |lab, role, interface| {
            let (link, id) = theirs.take().expect("it is there");
            ensure!(stranger::program_on(&lab.host(role).netns, interface)? == id, "it was touched");
            drop(link);
            Ok(())
        },
    );
}

#[test]
fn a_program_that_somebody_takes_off_is_put_back() {
    let mut lab = Lab::new();
    let client = std::sync::Arc::clone(&lab.stage.topology.client);
    let (done, report) = traffic::run(&client, &plan(), &NEVER, |control| -> Result<()> {
        control.wait_steady(PATIENCE)?;
        for role in ROLES {
            for interface in SIDES {
                // Ours is held by a link, which the usual command does not touch.
                ensure!(lab.on(role, &format!("ip link set dev {interface} xdp off")).is_err());
                let before = lab.agents.status(role)?;
                ensure!(before.is_protected(), "{}", before.json());
                for replaced in [false, true] {
                    let before = restored(&lab.agents.status(role)?, interface);
                    let namespace = &lab.host(role).netns;
                    if replaced {
                        stranger::replace(namespace, interface)?;
                    } else {
                        stranger::take_off(namespace, interface)?;
                    }
                    lab.until(role, "restored", |status| restored(status, interface) > before)?;
                    lab.protected()?;
                    goes_on(control)?;
                }
            }
        }
        Ok(())
    });
    let broken = report.broken();
    assert!(
        done.is_ok() && broken.is_empty(),
        "{done:?}; {broken:?}\n{}{}",
        report.table(),
        lab.agents.logs()
    );
}

#[test]
fn a_new_name_is_followed_and_nothing_else_changes() {
    let mut lab = Lab::new();
    let client = std::sync::Arc::clone(&lab.stage.topology.client);
    let (done, report) = traffic::run(&client, &plan(), &NEVER, |control| -> Result<()> {
        control.wait_steady(PATIENCE)?;
        for role in ROLES {
            for interface in SIDES {
                lab.on(role, &format!("ip link set {interface} name other0"))?;
                let status =
                    lab.until(role, "the new name", |status| shown(status, interface)["name"] == "other0")?;
                let shown = shown(&status, interface);
                ensure!(
                    status.is_protected() && shown["given"] == interface && shown["state"] == "whole",
                    "{shown}"
                );
                goes_on(control)?;
                ensure!(lost(&lab.agents.status(role)?, interface)? == 0, "it was lost");
                lab.on(role, &format!("ip link set other0 name {interface}"))?;
                lab.until(role, "the old name", |status| {
                    self::shown(status, interface)["name"] == interface
                })?;
            }
        }
        lab.protected()
    });
    let broken = report.broken();
    assert!(
        done.is_ok() && broken.is_empty(),
        "{done:?}; {broken:?}\n{}{}",
        report.table(),
        lab.agents.logs()
    );
}

/// The agent stands still while the kernel tells more than there is room for, among it that its guest's interface went; the one
/// that it finds has the name and the index of that one.
#[test]
fn nothing_is_missed_that_the_kernel_had_no_room_to_tell() {
    let mut lab = Lab::new();
    for role in ROLES {
        let missed = |status: &Status| status.count("interface_news_missed").unwrap_or(0);
        let before = lab.agents.status(role).unwrap();
        lab.agents.process(role).signal(Signal::STOP).unwrap();
        let host = lab.host(role);
        let batch: String =
            (0..4000).map(|n| format!("link set dev lo txqueuelen {}\n", 1000 + n % 2)).collect();
        let file = lab.stage.path("batch");
        std::fs::write(&file, batch).unwrap();
        host.netns.run(&format!("ip -batch {}", file.display())).unwrap();
        let index = shown(&before, GUEST)["index"].as_u64().unwrap();
        host.netns.run(&format!("ip link del {GUEST}")).unwrap();
        host.plug_guest_as(u32::try_from(index).unwrap()).unwrap();
        lab.agents.process(role).signal(Signal::CONT).unwrap();
        let status =
            lab.until(role, "restored", |status| restored(status, GUEST) > restored(&before, GUEST)).unwrap();
        assert!(missed(&status) > missed(&before), "{}", status.json());
        assert_eq!(shown(&status, GUEST)["index"], index, "{}", status.json());
        lab.protected().unwrap();
    }
    let client = std::sync::Arc::clone(&lab.stage.topology.client);
    let (done, report) = traffic::run(&client, &plan(), &NEVER, |control| control.wait_steady(PATIENCE * 2));
    assert!(done.is_ok() && report.broken().is_empty(), "{done:?}\n{}{}", report.table(), lab.agents.logs());
}

/// What was released and finds no uplink is counted and said; the end is in order.
#[test]
fn an_agent_whose_interfaces_are_gone_ends_in_order() {
    let mut lab = Lab::new();
    for role in ROLES {
        for interface in SIDES {
            lab.on(role, &format!("ip link del {interface}")).unwrap();
        }
        lab.says(role, GUEST, "guest interface gone").unwrap();
        assert!(lab.agents.process(role).stop(), "the {} agent had to be killed", role.name());
        let log = lab.agents.process(role).log();
        assert!(
            log.contains("guest interface gone (guest0)") && log.contains("uplink gone (uplink0)"),
            "{log}"
        );
    }
}
