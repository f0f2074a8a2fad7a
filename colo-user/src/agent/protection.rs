//! Whether the pair protects its client, and if not, why: the words of status, log and alerts.

use crate::failover::Standing;
use crate::path::Paths;
use std::fmt;

/// Why there is no protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No peer yet since the start.
    Connecting,
    /// A peer is there; its first answer is not.
    Syncing,
    /// The connection broke.
    PeerLost,
    /// The peer said goodbye.
    PeerLeft,
    /// The connection stands, and nothing has come for too long; or nothing comes over any link.
    PeerSilent,
    /// As one of the two above, and the peer is heard over other links.
    LinkLost,
    /// The peer does not take what it is sent: the out-buffer reached its bound.
    LinkStalled,
    /// The peer said what it cannot say.
    ProtocolBroken,
    /// A cut was begun and the peer did not end it in time.
    CutUnanswered,
    /// The link works, and the VMs are not in COLO.
    NotInColo,
    /// In COLO, and no checkpoint was seen from its beginning since the agents met.
    CheckpointDue,
    /// COLO has ended on this side.
    LeftColo,
    /// The monitor of the own QEMU does not answer.
    MonitorLost,
    /// The agent ends.
    Exiting,
    /// The judge has not said yet who goes on: nothing leaves.
    Holding,
    /// The other side was lost, and this one's QEMU is being told.
    TakingOver,
    /// The other side was lost: this one is the service.
    Alone,
    /// An operator has switched it off.
    Paused,
    /// Nothing leaves here, nor will.
    Closed,
    /// An interface of this side carries nothing: one of [`crate::path::REASONS`].
    Path(&'static str),
    /// One of the peer's does.
    PeerWithoutPath,
}

impl Reason {
    /// All of them, but for what is in [`crate::path::REASONS`].
    pub const ALL: [Self; 20] = [
        Self::Connecting,
        Self::Syncing,
        Self::PeerLost,
        Self::PeerLeft,
        Self::PeerSilent,
        Self::LinkLost,
        Self::LinkStalled,
        Self::ProtocolBroken,
        Self::CutUnanswered,
        Self::NotInColo,
        Self::CheckpointDue,
        Self::LeftColo,
        Self::MonitorLost,
        Self::Exiting,
        Self::Holding,
        Self::TakingOver,
        Self::Alone,
        Self::Paused,
        Self::Closed,
        Self::PeerWithoutPath,
    ];

    /// The text in status and log, an interface.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Syncing => "syncing",
            Self::PeerLost => "peer lost",
            Self::PeerLeft => "peer left",
            Self::PeerSilent => "peer silent",
            Self::LinkLost => "link lost",
            Self::LinkStalled => "link stalled",
            Self::ProtocolBroken => "protocol broken",
            Self::CutUnanswered => "cut unanswered",
            Self::NotInColo => "not in COLO",
            Self::CheckpointDue => "checkpoint due",
            Self::LeftColo => "left COLO",
            Self::MonitorLost => "monitor lost",
            Self::Exiting => "exiting",
            Self::Holding => "holding",
            Self::TakingOver => "taking over",
            Self::Alone => "alone",
            Self::Paused => "paused",
            Self::Closed => "closed",
            Self::Path(reason) => reason,
            Self::PeerWithoutPath => "peer without path",
        }
    }
}

/// Whether the pair protects its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Primary: what is covered leaves only when the secondary has said it. Secondary: its guest hears what the
    /// primary's hears, and is heard.
    Protected,
    /// Not so.
    Not(Reason),
}

impl Protection {
    /// The same with what the own interfaces carry, and those of the peer, where that is known: without a path nobody is protected.
    /// The loss of the own QEMU comes first, whose tap has lost its carrier with it.
    #[must_use]
    pub fn over(self, paths: &Paths, peer: Option<bool>) -> Self {
        match (paths.fault(), self) {
            (Some(_), Self::Not(Reason::MonitorLost)) => self,
            (Some((side, fault)), _) => Self::Not(Reason::Path(fault.reason(side))),
            (None, Self::Protected) if peer == Some(false) => Self::Not(Reason::PeerWithoutPath),
            (None, _) => self,
        }
    }

    /// The same with who may go on alone beside it: what that decides counts more than how the link is, and less than whether there is
    /// a path.
    #[must_use]
    pub fn beside(self, standing: Standing) -> Self {
        match (standing, self) {
            (_, Self::Not(Reason::Path(_))) => self,
            (Standing::Alone, _) => Self::Not(Reason::Alone),
            (Standing::TakingOver, _) => Self::Not(Reason::TakingOver),
            (Standing::Paused, _) => Self::Not(Reason::Paused),
            (Standing::Holding | Standing::Asking, Self::Protected) => Self::Not(Reason::Holding),
            (Standing::Closed, Self::Protected | Self::Not(Reason::PeerLeft | Reason::PeerLost)) => {
                Self::Not(Reason::Closed)
            }
            (Standing::Passing | Standing::Protected, _)
            | (Standing::Holding | Standing::Asking | Standing::Closed, Self::Not(_)) => self,
        }
    }

    /// `protected` or `not-protected`.
    #[must_use]
    pub const fn state(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::Not(_) => "not-protected",
        }
    }

    /// The reason's text; for a protected pair `in sync`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Protected => "in sync",
            Self::Not(reason) => reason.text(),
        }
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.state(), self.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mono::Mono;
    use crate::path::{Do, Look, Seen, Side};

    /// Whole, or with an uplink that is gone.
    fn paths(whole: bool) -> Paths {
        let seen = |index| Seen { index, up: true, carrier: true, ..Seen::default() };
        let mut paths = Paths::new(Mono::ZERO, ("tap0", &seen(5)), ("up0", &seen(6)));
        if !whole {
            let mut out = Vec::new();
            paths.look(Mono::ZERO, Side::Uplink, &Look { index: 6, ..Look::default() }, &mut out);
            assert_eq!(out, [Do::LetGo(Side::Uplink)]);
        }
        paths
    }

    #[test]
    fn without_a_path_nobody_is_protected_whoever_goes_on_alone() {
        let gone = Protection::Not(Reason::Path("uplink gone"));
        for protection in [Protection::Protected, Protection::Not(Reason::PeerLost)] {
            assert_eq!(protection.over(&paths(true), None), protection);
            assert_eq!(protection.over(&paths(true), Some(true)), protection);
            for standing in Standing::ALL {
                assert_eq!(protection.over(&paths(false), Some(true)).beside(standing), gone, "{standing}");
            }
        }
        assert_eq!((gone.state(), gone.reason()), ("not-protected", "uplink gone"));
        // A QEMU that is gone takes the carrier of its tap along.
        let lost = Protection::Not(Reason::MonitorLost);
        assert_eq!(lost.over(&paths(false), None), lost);
    }

    #[test]
    fn a_peer_without_path_protects_nobody() {
        let over = |protection: Protection| protection.over(&paths(true), Some(false));
        assert_eq!(over(Protection::Protected), Protection::Not(Reason::PeerWithoutPath));
        let lost = Protection::Not(Reason::PeerLost);
        assert_eq!(over(lost), lost);
        assert_eq!(over(Protection::Protected).beside(Standing::Alone), Protection::Not(Reason::Alone));
    }
}
