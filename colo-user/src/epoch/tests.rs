use super::*;
use std::collections::{HashSet, VecDeque};

#[test]
fn a_cut_asked_for_while_one_runs_follows_it() {
    let mut epochs = PrimaryEpochs::new(Epoch(5));
    assert_eq!(epochs.cut(), Some(Epoch(5)));
    assert_eq!(epochs.cut(), None);
    assert!(!epochs.cut_wanted(), "not while one runs");
    epochs.end(Epoch(5)).unwrap();
    epochs.begin(Epoch(6)).unwrap();
    assert!(epochs.commit());
    assert!(epochs.cut_wanted());
    assert_eq!(epochs.cut(), Some(Epoch(6)));
    epochs.end(Epoch(6)).unwrap();
    epochs.begin(Epoch(7)).unwrap();
    assert!(epochs.commit() && !epochs.commit());
    assert!(!epochs.cut_wanted(), "once");
}

#[test]
fn markers_and_tags_that_cannot_follow_are_refused() {
    let mut p = PrimaryEpochs::new(Epoch(5));
    assert!(p.end(Epoch(5)).is_err(), "no cut was made");
    assert!(p.begin(Epoch(6)).is_err());
    assert!(p.output(Epoch(6)).is_err(), "ahead without a cut");
    assert_eq!(p.output(Epoch(4)), Ok(Verdict::Stale));
    p.cut();
    assert!(p.begin(Epoch(6)).is_err(), "before end");
    assert!(p.end(Epoch(4)).is_err());
    assert_eq!(p.output(Epoch(5)), Ok(Verdict::Now), "said before the secondary stopped");
    p.end(Epoch(5)).unwrap();
    assert!(p.end(Epoch(5)).is_err(), "twice");
    assert!(p.output(Epoch(5)).is_err(), "after end");
    assert!(p.output(Epoch(6)).is_err(), "before begin");
    let error = p.begin(Epoch(7)).expect_err("a step too far").to_string();
    assert_eq!(error, "begin 7 does not fit epoch 5 (end seen, begin not yet seen)");

    p.begin(Epoch(6)).unwrap();
    assert_eq!(p.output(Epoch(6)), Ok(Verdict::Withhold));
    assert!(p.output(Epoch(7)).is_err());

    let mut s = SecondaryEpochs::new(Epoch(5));
    assert!(s.cut(Epoch(6)).is_err());
    assert!(s.input_cut(Epoch(5), 9).is_err(), "no cut");
    assert!(s.check_input(Epoch(6)).is_err());
    s.cut(Epoch(5)).unwrap();
    assert!(s.cut(Epoch(5)).is_err(), "twice");
    assert_eq!(s.loaded(), Epoch(6));
    assert!(s.cut(Epoch(6)).is_err(), "its input is undecided");
    assert_eq!(s.input(3), Verdict::Withhold);
    s.input_cut(Epoch(5), 9).unwrap();
    assert_eq!((s.input(8), s.input(9)), (Verdict::Stale, Verdict::Now));
}

#[test]
fn a_new_session_is_a_new_epoch() {
    let mut p = PrimaryEpochs::new(Epoch(5));
    p.cut();
    assert_eq!(p.restart(), Epoch(6));
    assert!(!p.cutting());
    let mut s = SecondaryEpochs::new(Epoch(5));
    s.cut(Epoch(5)).unwrap();
    s.restart(Epoch(6));
    assert_eq!((s.epoch(), s.input(0)), (Epoch(6), Verdict::Now));
}

/// Every interleaving of a small pair: guests that say and hear, agents that read late, links that deliver late, cuts
/// at any moment. Frames carry the true state they were said in; the model checks every decision against it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Model {
    primary: P,
    secondary: S,
    to_secondary: VecDeque<Down>,
    to_primary: VecDeque<Up>,
    cuts_left: u8,
    says_left: u8,
    inputs_left: u8,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct P {
    epoch: u64,
    cutting: u8,
    wanted: bool,
    next_index: u64,
    /// Guest's checkpoints so far: the truth.
    truth: u64,
    withheld: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct S {
    epoch: u64,
    due: Option<u64>,
    first: u64,
    /// Checkpoints loaded so far: the truth.
    truth: u64,
    captured: u8,
    queue: VecDeque<u64>,
    /// Input that the guest owns: below it by state, then one by one.
    owned: u64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Down {
    Input(u64, u64),
    Cut(u64),
    InputCut(u64, u64),
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Up {
    Output(u64, u64),
    End(u64),
    Begin(u64),
}

impl Model {
    fn start() -> Self {
        Self {
            primary: P { epoch: 1, cutting: 0, wanted: false, next_index: 0, truth: 1, withheld: vec![] },
            secondary: S {
                epoch: 1,
                due: None,
                first: 0,
                truth: 1,
                captured: 0,
                queue: VecDeque::new(),
                owned: 0,
            },
            to_secondary: VecDeque::new(),
            to_primary: VecDeque::new(),
            cuts_left: 2,
            says_left: 3,
            inputs_left: 3,
        }
    }

    fn machines(&self) -> (PrimaryEpochs, SecondaryEpochs) {
        let state = [PrimaryState::Running, PrimaryState::Cutting, PrimaryState::Ended, PrimaryState::Begun];
        let p = PrimaryEpochs {
            epoch: Epoch(self.primary.epoch),
            state: state[usize::from(self.primary.cutting)],
            wanted: self.primary.wanted,
        };
        let s = SecondaryEpochs {
            epoch: Epoch(self.secondary.epoch),
            input_cut_due: self.secondary.due.map(Epoch),
            first: self.secondary.first,
        };
        (p, s)
    }

    fn keep(&mut self, p: &PrimaryEpochs, s: &SecondaryEpochs) {
        self.primary.epoch = p.epoch.0;
        self.primary.cutting = p.state as u8;
        self.primary.wanted = p.wanted;
        self.secondary.epoch = s.epoch.0;
        self.secondary.due = s.input_cut_due.map(|e| e.0);
        self.secondary.first = s.first;
    }

    fn send_cut(&mut self, p: &mut PrimaryEpochs) {
        if let Some(epoch) = p.cut() {
            self.primary.truth += 1;
            self.to_secondary.push_back(Down::Cut(epoch.0));
            self.to_secondary.push_back(Down::InputCut(epoch.0, self.primary.next_index));
        }
    }

    /// Output that may be decided: its state must be the one the primary decides in.
    fn decide(&self, p: &PrimaryEpochs, truth: u64) {
        let primary_state = self.primary.truth - u64::from(p.cutting());
        assert_eq!(truth, primary_state, "output of state {truth} decided in state {primary_state}");
    }

    /// All that can happen next.
    fn steps(&self) -> Vec<Self> {
        let mut next = Vec::new();
        let mut step = |f: &mut dyn FnMut(&mut Self, &mut PrimaryEpochs, &mut SecondaryEpochs)| {
            let mut model = self.clone();
            let (mut p, mut s) = model.machines();
            f(&mut model, &mut p, &mut s);
            model.keep(&p, &s);
            next.push(model);
        };
        if self.says_left > 0 {
            step(&mut |m, _, _| {
                m.says_left -= 1;
                m.secondary.captured += 1;
            });
        }
        if self.secondary.captured > 0 {
            step(&mut |m, _, s| {
                m.secondary.captured -= 1;
                m.to_primary.push_back(Up::Output(s.epoch().0, m.secondary.truth));
            });
        }
        if self.inputs_left > 0 {
            step(&mut |m, p, _| {
                m.inputs_left -= 1;
                m.to_secondary.push_back(Down::Input(p.epoch().0, m.primary.next_index));
                m.primary.next_index += 1;
            });
        }
        if self.cuts_left > 0 {
            step(&mut |m, p, _| {
                m.cuts_left -= 1;
                m.send_cut(p);
            });
        }
        if !self.to_secondary.is_empty() {
            step(&mut |m, _, s| m.secondary_reads(s));
        }
        if !self.secondary.queue.is_empty() {
            step(&mut |m, _, s| {
                let index = m.secondary.queue[0];
                match s.input(index) {
                    Verdict::Withhold => return,
                    Verdict::Stale => assert!(index < m.secondary.owned, "input {index} lost"),
                    Verdict::Now => {
                        assert_eq!(index, m.secondary.owned, "input out of order, twice or lost");
                        m.secondary.owned += 1;
                    }
                }
                m.secondary.queue.pop_front();
            });
        }
        if !self.to_primary.is_empty() {
            step(&mut |m, p, _| m.primary_reads(p));
        }
        next
    }

    fn secondary_reads(&mut self, s: &mut SecondaryEpochs) {
        match self.to_secondary.pop_front() {
            Some(Down::Input(epoch, index)) => {
                s.check_input(Epoch(epoch)).unwrap();
                self.secondary.queue.push_back(index);
            }
            Some(Down::Cut(epoch)) => {
                s.cut(Epoch(epoch)).unwrap();
                for _ in 0..std::mem::take(&mut self.secondary.captured) {
                    self.to_primary.push_back(Up::Output(s.epoch().0, self.secondary.truth));
                }
                self.to_primary.push_back(Up::End(epoch));
                self.secondary.truth += 1;
                self.to_primary.push_back(Up::Begin(s.loaded().0));
            }
            Some(Down::InputCut(epoch, first)) => {
                s.input_cut(Epoch(epoch), first).unwrap();
                // The loaded state contains exactly the input before `first`.
                assert!(self.secondary.owned <= first, "the guest was ahead of its own state");
                self.secondary.owned = first;
            }
            None => {}
        }
    }

    fn primary_reads(&mut self, p: &mut PrimaryEpochs) {
        match self.to_primary.pop_front() {
            Some(Up::Output(epoch, truth)) => match p.output(Epoch(epoch)).unwrap() {
                Verdict::Now => self.decide(p, truth),
                Verdict::Withhold => self.primary.withheld.push(truth),
                Verdict::Stale => assert!(truth < self.primary.truth, "fresh output dropped"),
            },
            Some(Up::End(epoch)) => p.end(Epoch(epoch)).unwrap(),
            Some(Up::Begin(epoch)) => {
                p.begin(Epoch(epoch)).unwrap();
                assert!(p.commit());
                for truth in std::mem::take(&mut self.primary.withheld) {
                    self.decide(p, truth);
                }
                if p.cut_wanted() {
                    self.send_cut(p);
                }
            }
            None => {}
        }
    }

    fn settled(&self) -> bool {
        self.to_primary.is_empty()
            && self.to_secondary.is_empty()
            && self.secondary.queue.is_empty()
            && self.secondary.captured == 0
    }
}

#[test]
fn every_interleaving_of_a_small_pair_keeps_the_states_apart() {
    let mut seen = HashSet::new();
    let mut open = vec![Model::start()];
    let (mut ends, mut most_epochs) = (0, 0);
    while let Some(model) = open.pop() {
        if !seen.insert(model.clone()) {
            continue;
        }
        if model.settled() {
            // Wherever the pair comes to rest, both are in the same epoch and own the same input.
            assert_eq!(model.primary.epoch, model.secondary.epoch);
            assert_eq!(model.primary.truth, model.secondary.truth);
            assert_eq!(model.primary.next_index, model.secondary.owned);
            assert!(model.primary.withheld.is_empty() && model.primary.cutting == 0);
            ends += 1;
            most_epochs = most_epochs.max(model.primary.epoch);
        }
        open.extend(model.steps());
    }
    assert!(
        seen.len() > 10_000 && ends > 10,
        "{} states, {ends} at rest: the model does not move",
        seen.len()
    );
    assert_eq!(most_epochs, 3, "both cuts were made");
}
