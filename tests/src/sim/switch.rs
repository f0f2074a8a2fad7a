//! The client's side of the hosts: one switch, which knows who spoke when, and the judge's network.

use super::guest::Guest;
use super::host::{Mode, Out};
use super::keeping::Word;
use super::verdict::Violation;
use super::world::{Event, World};
use crate::random::Random;
use colo_user::judge::etcd::keeper::Me;
use colo_user::judge::{Answer, Claimant};
use colo_user::link::frame::Role;
use colo_user::mono::Mono;
use colo_user::wire::{Ether, Ip, TcpSegment, UdpDatagram, proto};
use std::time::Duration;

/// A judge that has not answered in this time has given no answer.
const JUDGE_LIMIT: Duration = Duration::from_millis(1500);

/// A frame comes to a guest.
pub(super) fn to_guest(
    guest: &mut Guest,
    now: Mono,
    frame: &[u8],
    entropy: &mut Random,
    said: &mut Vec<Vec<u8>>,
) {
    let Ok(ether) = Ether::parse(frame) else { return };
    let Ok(ip) = Ip::parse(frame, ether.payload, ether.ethertype) else { return };
    let payload = &frame[ip.payload..ip.end];
    if ip.protocol == proto::TCP {
        if let Ok(s) = TcpSegment::parse(payload) {
            guest.hears(now, &s, entropy, said);
        }
    } else if let Ok(d) = UdpDatagram::parse(payload) {
        let number = u32::from_be_bytes([d.payload[0], d.payload[1], d.payload[2], d.payload[3]]);
        guest.asked(d.src_port, number, d.payload[4] == 1, entropy, said);
    }
}

/// A frame for the trace.
pub(super) fn shown(frame: &[u8]) -> String {
    let Ok(ether) = Ether::parse(frame) else { return format!("{} bytes", frame.len()) };
    let Ok(ip) = Ip::parse(frame, ether.payload, ether.ethertype) else { return "an announcement".into() };
    let payload = &frame[ip.payload..ip.end];
    match (ip.protocol, TcpSegment::parse(payload), UdpDatagram::parse(payload)) {
        (proto::TCP, Ok(s), _) => {
            let (from, to, length) = (s.src_port, s.dst_port, s.payload.len());
            format!("{from} to {to}: {:?} seq {} ack {} length {length}", s.flags, s.seq.0, s.ack.0)
        }
        (proto::UDP, _, Ok(d)) => format!("{} to {}: {:?}", d.src_port, d.dst_port, d.payload),
        _ => format!("{} bytes", frame.len()),
    }
}

impl World {
    /// What an agent has done in its turn.
    pub(super) fn carry_out(&mut self, side: usize) {
        for out in std::mem::take(&mut self.hosts[side].io.out) {
            match out {
                Out::Emit(frame) => self.emit(side, frame),
                Out::Serves => self.serves(side),
                Out::Want(want, me) => self.tell_keeper(side, Word::Want(want, me)),
                Out::Ask(term, claimant) if self.etcd.is_some() => {
                    let role = if side == self.primary { Role::Primary } else { Role::Secondary };
                    self.tell_keeper(side, Word::Claim(term, Me { claimant, role }));
                }
                Out::Ask(term, claimant) => {
                    self.note(|| format!("{side} asks the judge in {term:016x}"));
                    let takes = self.random.millis(1, 1 + self.judge_takes);
                    self.after(takes, Event::Ask { side, term, claimant });
                }
            }
        }
    }

    /// A side goes on alone: everything that a client ever saw must be part of what it is.
    fn serves(&mut self, side: usize) {
        self.note(|| format!("{side} is the service"));
        self.mark(if side == self.primary { "primary alone" } else { "took over" });
        self.service = side;
        let soon = self.random.millis(200, 1500);
        self.after(soon, Event::Again(side));
        let owned = self.client.owned_by(&self.hosts[side].io.vm.guest);
        self.taken_back(owned);
        if self.forsaken.take() == Some(side) {
            self.mark("promoted without its connections");
            self.client.begins_anew(self.now);
            self.client_turns();
        }
    }

    pub(super) fn taken_back(&mut self, outcome: Result<(), String>) {
        if let Err(text) = outcome {
            self.violation.get_or_insert(Violation::TakenBack(text));
        }
    }

    /// A frame leaves a host's uplink.
    pub(super) fn emit(&mut self, side: usize, frame: Vec<u8>) {
        self.note(|| format!("{side} says {}", shown(&frame)));
        if side != self.service {
            let (speaks, serves) = (side, self.service);
            let text = format!("{speaks} says {} bytes, {serves} is the service", frame.len());
            self.violation.get_or_insert(Violation::BothSpeak(text));
        }
        self.holds_the_role(side);
        self.on_the_way(|| Event::ToClient(frame.clone()));
    }

    pub(super) fn client_hears(&mut self, frame: &[u8]) {
        self.note(|| format!("client hears {}", shown(frame)));
        let mut said = Vec::new();
        let heard = self.client.hears(self.now, frame, &mut said);
        self.taken_back(heard);
        self.client_says(said);
    }

    pub(super) fn client_turn(&mut self) {
        if self.client_at != Some(self.now) {
            return;
        }
        self.client_at = None;
        let mut said = Vec::new();
        self.client.tick(self.now, &mut said);
        self.client_says(said);
    }

    fn client_says(&mut self, frames: Vec<Vec<u8>>) {
        for frame in frames {
            self.on_the_way(|| Event::ToHosts(frame.clone()));
        }
        self.client_turns();
    }

    /// Both hosts hear the client; the data path decides.
    pub(super) fn hosts_hear(&mut self, frame: Vec<u8>) {
        for side in [0, 1] {
            let local = self.local(side);
            let host = &mut self.hosts[side];
            if !host.up || host.asleep_until > self.now {
                continue;
            }
            let boot = host.clock.boot(self.now);
            let datapath = &mut host.io.datapath;
            match datapath.mode {
                Mode::Protect | Mode::Pass if datapath.is_over(boot) => continue,
                Mode::Off | Mode::Closed | Mode::Secondary => continue,
                Mode::Pass => {}
                Mode::Protect => {
                    datapath.mirror.push_back((datapath.next_index, frame.clone()));
                    datapath.next_index += 1;
                }
            }
            let frames = datapath.input(local, frame.clone());
            host.io.vm.tap.extend(frames);
            if host.io.datapath.mode == Mode::Protect {
                self.wake(side);
            }
            self.vm_turns(side);
        }
    }

    /// A question comes to the judge, or does not.
    pub(super) fn asked(&mut self, side: usize, term: u64, claimant: Claimant) {
        if !self.hosts[side].up {
            return;
        }
        let lost = self.cut_questions[side] > self.now || self.judge_away > self.now;
        let answer = if lost {
            // A judge that went away as it answered may have taken the claim.
            if self.judge_away > self.now && self.random.below(2) == 0 {
                let _ = self.judge.claim(side, term, claimant);
            }
            Answer::None("no answer".into())
        } else {
            self.judge.claim(side, term, claimant)
        };
        let cut = lost || self.cut_answers[side] > self.now;
        let (answer, delay) = match answer {
            answer if !cut => (answer, self.random.millis(1, 1 + self.judge_takes)),
            _ => (Answer::None("no answer".into()), JUDGE_LIMIT),
        };
        match answer {
            Answer::No(_) => self.mark("refused"),
            Answer::None(_) => self.mark("judge silent"),
            _ => {}
        }
        self.after(delay, Event::Answered { side, term, answer });
    }
}
