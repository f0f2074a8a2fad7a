//! Why an interface carries nothing: words for status and log, and what to do.

use super::Side;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was deleted.
    Gone,
    /// It was moved to another network namespace.
    Moved,
    /// It is set down.
    Down,
    /// It is set up, and nothing is at its other end.
    NoCarrier,
    /// Its XDP program was taken off.
    NoProgram,
    /// It has another XDP program, with this id.
    Taken(u32),
    /// It is there and cannot be attached to, for this reason.
    Refused(String),
}

impl Fault {
    /// The word in a status, an interface.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Moved => "moved",
            Self::Down => "down",
            Self::NoCarrier => "no carrier",
            Self::NoProgram => "no program",
            Self::Taken(_) => "taken",
            Self::Refused(_) => "refused",
        }
    }

    /// All words.
    pub const WORDS: [&'static str; 7] =
        ["gone", "moved", "down", "no carrier", "no program", "taken", "refused"];

    /// The reason in status and log for a side that carries nothing, an interface.
    #[must_use]
    pub const fn reason(&self, side: Side) -> &'static str {
        REASONS[match side {
            Side::Guest => 0,
            Side::Uplink => 1,
        }][match self {
            Self::Gone => 0,
            Self::Moved => 1,
            Self::Down => 2,
            Self::NoCarrier => 3,
            Self::NoProgram => 4,
            Self::Taken(_) => 5,
            Self::Refused(_) => 6,
        }]
    }

    /// What an operator can do about the interface called `name`, which was given as `given`.
    #[must_use]
    pub fn way_out(&self, side: Side, name: &str, given: &str) -> String {
        match (self, side) {
            (Self::Gone, _) => format!("make {given} anew and set it up: it is attached to by itself then"),
            (Self::Moved, _) => format!(
                "move {name} back as {given}, or make {given} anew, and set it up: it is attached to by itself then"
            ),
            (Self::Down, _) => format!("`ip link set {name} up`"),
            (Self::NoCarrier, Side::Guest) => format!(
                "nothing is at the other end of {name}: start the guest's QEMU, or set the peer of the veth up"
            ),
            (Self::NoCarrier, Side::Uplink) => {
                format!("nothing is at the other end of {name}: look at its cable, or set its peer up")
            }
            (Self::NoProgram, _) => "it is put back by itself".to_owned(),
            (Self::Taken(id), _) => format!(
                "XDP program {id} of somebody else is on {name} and left alone: remove it with `ip link set dev {name} xdp \
                 off`, or end who owns its link (`bpftool net`); it is attached to by itself then"
            ),
            (Self::Refused(reason), _) => format!("{reason}; it is tried again"),
        }
    }
}

/// All reasons of a side that carries nothing: the guest's, then the uplink's.
pub const REASONS: [[&str; 7]; 2] = [
    [
        "guest interface gone",
        "guest interface moved",
        "guest interface down",
        "guest interface without carrier",
        "guest interface without program",
        "guest interface taken",
        "guest interface refused",
    ],
    [
        "uplink gone",
        "uplink moved",
        "uplink down",
        "uplink without carrier",
        "uplink without program",
        "uplink taken",
        "uplink refused",
    ],
];
