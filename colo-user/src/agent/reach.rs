//! What the peer says of its interfaces, in the session that lasts.

use crate::path::Carrying;

/// See the module. Nothing is known of a peer that does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach(Option<Carrying>);

impl Reach {
    /// The peer has told. True if its guest is reached again: that one lacks what was said to it meanwhile.
    pub fn told(&mut self, now: Carrying) -> bool {
        let before = self.0.replace(now);
        now.guest && before.is_some_and(|before| !before.guest)
    }

    /// Whether both of the peer's interfaces carry frames; `None` while that is not known.
    pub const fn is_whole(self) -> Option<bool> {
        match self.0 {
            Some(carrying) => Some(carrying.is_whole()),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_is_reached_again_is_told_apart_from_an_uplink() {
        let mut reach = Reach::default();
        assert_eq!(reach.is_whole(), None);
        let whole = Carrying { guest: true, uplink: true };
        assert!(!reach.told(whole) && reach.is_whole() == Some(true));
        assert!(!reach.told(Carrying { uplink: false, ..whole }) && reach.is_whole() == Some(false));
        assert!(!reach.told(whole), "it heard all");
        assert!(!reach.told(Carrying { guest: false, ..whole }));
        assert!(reach.told(whole) && reach.is_whole() == Some(true));
        assert!(!reach.told(whole));
    }
}
