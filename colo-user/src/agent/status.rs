//! What an agent says about itself: the body of `colo status --json`. Field names are an interface.

use super::heart::Shown;
use super::times::Summary;
use crate::compare::Divergence;
use crate::failover::{self, Why};
use crate::judge::etcd::keeper::Tenure;
use crate::path::{Fault, Paths, Side};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// How the programs are attached.
#[derive(Clone, Debug, Serialize)]
pub struct Attach {
    /// On the guest's interface: `native` or `skb`.
    pub guest: &'static str,
    /// On the uplink, likewise.
    pub uplink: &'static str,
}

/// Checkpoints asked for.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Checkpoints {
    /// In all.
    pub asked: u64,
    /// By kind.
    pub by: BTreeMap<&'static str, u64>,
}

/// Who goes on alone, and how this side stands.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// A word of [`failover::Standing`].
    pub standing: &'static str,
    /// A text of [`Why`].
    pub reason: &'static str,
    /// The term of the protection, 16 hexadecimal digits.
    pub term: Option<String>,
    /// What an operator can do, where this side does not go on by itself.
    pub way_out: Option<&'static str>,
}

impl Standing {
    /// As the machine says, over interfaces that stand so: nothing leaves a side of a pair that has no path, and nothing is lost.
    #[must_use]
    pub fn new((standing, why): (failover::Standing, Why), term: Option<u64>, paths: &Paths) -> Self {
        let term = term.map(|term| format!("{term:016x}"));
        let (standing, why, way_out) = match paths.fault() {
            // What to do is said of the interface.
            Some((side, fault)) if standing == failover::Standing::Protected => {
                (failover::Standing::Holding, Why::of_path(side, fault), None)
            }
            _ => (standing, why, why.way_out()),
        };
        Self { standing: standing.word(), reason: why.text(), term, way_out }
    }
}

/// How it stands with the lease.
#[derive(Clone, Debug, Serialize)]
pub struct Lease {
    /// `held`, `over` or `taken`.
    pub state: &'static str,
    /// The fencing token, while it is held.
    pub token: Option<i64>,
    /// How long it lasts if it is not renewed, in milliseconds.
    pub ends_in_ms: u64,
}

impl Lease {
    /// As the judge says, with so much left.
    #[must_use]
    pub fn new(tenure: &Tenure, left: Duration) -> Self {
        let (state, token) = match tenure {
            Tenure::Held(token) => ("held", Some(*token)),
            Tenure::Over => ("over", None),
            Tenure::Taken(_) => ("taken", None),
        };
        Self { state, token, ends_in_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX) }
    }
}

/// An interface, as far as it carries frames.
#[derive(Clone, Debug, Serialize)]
pub struct Interface {
    /// The name it was given by.
    pub given: String,
    /// The name it has now, or had last.
    pub name: String,
    /// Its index; null while there is none.
    pub index: Option<u32>,
    /// `whole`, or a word of [`Fault`].
    pub state: &'static str,
    /// What an operator can do, where it carries nothing.
    pub way_out: Option<String>,
}

/// Both interfaces.
#[derive(Clone, Debug, Serialize)]
pub struct Interfaces {
    /// The guest's.
    pub guest: Interface,
    /// The uplink.
    pub uplink: Interface,
}

impl Interfaces {
    /// As the core of the paths says.
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        let of = |side| {
            let path = paths.of(side);
            let way_out = path.fault.as_ref().map(|fault| fault.way_out(side, &path.name, &path.given));
            Interface {
                given: path.given.clone(),
                name: path.name.clone(),
                index: Some(path.index).filter(|&index| index != 0),
                state: path.fault.as_ref().map_or("whole", Fault::word),
                way_out,
            }
        };
        Self { guest: of(Side::Guest), uplink: of(Side::Uplink) }
    }
}

/// One answer.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// `primary` or `secondary`.
    pub role: &'static str,
    /// `protected` or `not-protected`.
    pub state: &'static str,
    /// Why, from a fixed list; `in sync` when protected.
    pub reason: &'static str,
    /// The current epoch.
    pub epoch: u64,
    /// The link's endpoint.
    pub peer: String,
    /// How the programs are attached.
    pub attach: Attach,
    /// What they are attached to, and whether that carries frames.
    pub interfaces: Interfaces,
    /// `afxdp` or `ringbuf`.
    pub hold: String,
    /// Frames held (primary); frames of input that wait for the guest (secondary).
    pub held: u64,
    /// From its capture to its release, over all frames released (primary).
    pub held_time: Summary,
    /// How long checkpoints made the guest stand still (primary whose QEMU is followed).
    pub pauses: Summary,
    /// All counters, by name.
    pub counters: BTreeMap<String, u64>,
    /// Checkpoints asked for.
    pub checkpoints: Checkpoints,
    /// Null where the agent does not follow its QEMU.
    pub failover: Option<Standing>,
    /// Null where there are no heartbeat links besides the one between the agents.
    pub heartbeat: Option<Shown>,
    /// Null where the judge gives no lease.
    pub lease: Option<Lease>,
    /// The last divergences, newest last.
    pub divergences: Vec<Divergence>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mono::Mono;
    use crate::path::{Look, Seen};

    #[test]
    fn a_side_of_a_pair_without_a_path_holds_and_names_it() {
        let seen = |index| Seen { index, up: true, carrier: true, ..Seen::default() };
        let mut paths = Paths::new(Mono::ZERO, ("tap0", &seen(5)), ("up0", &seen(6)));
        let pair = (failover::Standing::Protected, Why::InSync);
        let shown = |paths: &Paths, stands| {
            let standing = Standing::new(stands, Some(1), paths);
            (standing.standing, standing.reason, standing.way_out.is_some())
        };
        assert_eq!(shown(&paths, pair), ("protected", "in sync", false));
        paths.look(Mono::ZERO, Side::Uplink, &Look { index: 6, ..Look::default() }, &mut Vec::new());
        assert_eq!(shown(&paths, pair), ("holding", "uplink lost", false));
        let closed = (failover::Standing::Closed, Why::UplinkLost);
        assert_eq!(shown(&paths, closed), ("closed", "uplink lost", true));
        let interfaces = Interfaces::new(&paths);
        assert_eq!((interfaces.guest.state, interfaces.guest.index), ("whole", Some(5)));
        assert_eq!((interfaces.uplink.state, interfaces.uplink.index), ("gone", None));
        assert!(interfaces.guest.way_out.is_none());
        assert!(interfaces.uplink.way_out.is_some_and(|text| text.contains("make up0 anew")));
    }
}
