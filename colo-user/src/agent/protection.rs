//! Whether the pair protects its client, and if not, why: the words of status, log and alerts.

use crate::failover::Standing;
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
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 19] = [
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
    /// The same with who may go on alone beside it: what that decides counts more than how the link is.
    #[must_use]
    pub fn beside(self, standing: Standing) -> Self {
        match (standing, self) {
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
