//! Faults carried out.

use super::VM_LIMIT;
use super::etcd::{Etcd, Which};
use super::fault::Fault;
use super::host::Mode;
use super::world::{Event, World};
use colo_user::qmp::Notice;

impl World {
    fn member(&mut self, hit: impl FnOnce(&mut Etcd)) {
        if let Some(etcd) = &mut self.etcd {
            hit(etcd);
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.note(|| format!("fault: {fault:?}"));
        let until = self.now + fault.lasts();
        match fault {
            Fault::HostCrash(side) => {
                let host = &mut self.hosts[side];
                (host.up, host.harmed) = (false, true);
                host.agent = None;
                host.io.datapath.mode = Mode::Off;
                (host.io.end, host.io.incoming) = (None, None);
            }
            Fault::VmKilled(side) => {
                let host = &mut self.hosts[side];
                host.harmed = true;
                let vm = &mut host.io.vm;
                if !host.up || !vm.there {
                    return;
                }
                let was_open = std::mem::take(&mut vm.open);
                (vm.there, vm.runs) = (false, false);
                vm.calls.clear();
                vm.notices.push_back(Notice::Down { reason: "killed".into() });
                if was_open {
                    self.close_qemu(side);
                }
                self.wake(side);
            }
            Fault::VmFrozen(side, lasts) => {
                let host = &mut self.hosts[side];
                host.io.vm.frozen_until = host.io.vm.frozen_until.max(until);
                host.harmed |= lasts >= VM_LIMIT / 2;
            }
            Fault::AgentKilled(side, _) => {
                if !self.hosts[side].up || self.hosts[side].agent.is_none() {
                    return;
                }
                self.hosts[side].harmed = true;
                self.hosts[side].agent = None;
                self.agent_gone(side);
                let io = &mut self.hosts[side].io;
                io.datapath.ring.clear();
                io.datapath.mirror.clear();
                io.answers.clear();
                if !io.datapath.pinned {
                    io.datapath.mode = Mode::Off;
                }
                self.at(until, Event::AgentStarts(side));
            }
            Fault::AgentPaused(side, _) => {
                let host = &mut self.hosts[side];
                host.agent_asleep_until = host.agent_asleep_until.max(until);
                self.wake(side);
            }
            Fault::HostPaused(side, lasts) => {
                let host = &mut self.hosts[side];
                host.asleep_until = host.asleep_until.max(until);
                host.harmed |= lasts >= VM_LIMIT / 2;
                if self.suspends {
                    host.clock.sleeps(self.now, until);
                }
                self.wake(side);
            }
            Fault::Reset { seen } => self.reset(seen),
            Fault::Partition { from, .. } => {
                for (side, cut) in from.into_iter().enumerate() {
                    if cut {
                        self.blocked_until[side] = self.blocked_until[side].max(until);
                    }
                }
            }
            Fault::JudgeCut { side, questions, answers, .. } => {
                if questions {
                    self.cut_questions[side] = self.cut_questions[side].max(until);
                }
                if answers {
                    self.cut_answers[side] = self.cut_answers[side].max(until);
                }
            }
            Fault::JudgeAway(_) => {
                self.judge_away = self.judge_away.max(until);
                if let Some(etcd) = &mut self.etcd {
                    let leader = etcd.named(Which::Leader);
                    etcd.isolates(leader, until);
                    etcd.isolates((leader + 1) % super::etcd::MEMBERS, until);
                }
            }
            Fault::MemberOnly { side, reaches, .. } => {
                let reached = self.etcd.as_ref().map(|etcd| etcd.named(reaches));
                for (member, cut) in self.cut_members[side].iter_mut().enumerate() {
                    if reached.is_some_and(|reached| reached != member) {
                        *cut = until.max(*cut);
                    }
                }
            }
            Fault::MemberGone(which) => self.member(|etcd| etcd.loses(etcd.named(which))),
            Fault::MemberPaused(which, _) => self.member(|etcd| etcd.pauses(etcd.named(which), until)),
            Fault::MemberIsolated(which, _) => self.member(|etcd| etcd.isolates(etcd.named(which), until)),
            Fault::Slow(delay) => self.slow = (until, delay),
            Fault::Checkpoint => self.begin_checkpoint(self.primary),
            Fault::Ordered(side, verb) => self.ordered(side, verb),
        }
    }
}
