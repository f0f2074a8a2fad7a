//! What is heard of the peer over links other than the one between the agents ([`crate::heartbeat`]).
//!
//! It never lengthens what a primary may let out, and never lets a secondary ask before the primary's lease is over, unless that is
//! closed in this very term. It makes the primary ask sooner when nobody is there, and the secondary later while the primary lives: that one
//! has precedence for [`precedence`], since its clients are with it.

use super::{Config, Loss, Why};
use std::time::Duration;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Elsewhere {
    /// There are no other links, or the peer was never heard over them.
    #[default]
    Unknown,
    /// No link says anything.
    Silent,
    /// It is heard.
    Alive,
    /// It is heard, and is a primary that has dropped what it held and lets nothing out any more in this term.
    Closed(u64),
}

impl Elsewhere {
    /// Why a side stands as it does after `loss`.
    pub(super) const fn why(self, loss: Loss) -> Why {
        match (self, loss) {
            (Self::Alive | Self::Closed(_), Loss::Link | Loss::Silent) => Why::LinkLost,
            _ => loss.why(),
        }
    }

    /// The reason to stand by from here on, where it was `why`.
    pub(super) const fn again(self, why: Why) -> Why {
        match (self, why) {
            (Self::Silent, Why::PeerLost | Why::LinkLost) => Why::PeerSilent,
            (Self::Alive | Self::Closed(_), Why::PeerLost | Why::PeerSilent) => Why::LinkLost,
            _ => why,
        }
    }
}

/// How much longer a secondary waits for a primary that lives without a link: enough for it to ask and to go on, and bounded,
/// because it may have no judge to ask.
#[must_use]
pub fn precedence(lease: Duration) -> Duration {
    (lease + Config::margin(lease)) * 2
}
