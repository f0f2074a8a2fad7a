//! What two agents say to each other: one [`Hello`] each, then [`Message`]s. No I/O.
//!
//! All numbers are big-endian.
//!
//! ```text
//! hello    "COLOLINK" | u16 version | u8 role | u8 security type | 16 bytes boot id | u64 features
//!          | u16 length of the security blob (0 to 4096) | blob
//! message  u32 length of what follows | u8 kind | body
//! ```
//!
//! | kind | body | sender |
//! |---|---|---|
//! | 1 input | u64 epoch, u64 index, frame | primary |
//! | 2 output | u64 epoch, frame | secondary |
//! | 3 learned | u64 epoch, initial numbers of a flow | primary |
//! | 4 cut | u64 epoch that ends | primary |
//! | 5 end | u64 epoch that ended | secondary |
//! | 6 begin | u64 epoch that begins | secondary |
//! | 7 input-cut | u64 epoch, u64 first index that counts | primary |
//! | 8 heartbeat | u64 sent, u64 echo, u64 frames, u64 lost | either |
//! | 9 bye | u8 reason, text | either |
//! | 10 ask | u8 reason | secondary |
//! | 11 session | u64 epoch it starts in, u64 term, u64 lease in milliseconds | primary |
//! | 12 bases | u64 epoch that ends, then u8 length and base of each flow | primary |
//! | 13 path | u8: 1 its guest's interface carries frames, 2 its uplink does, 3 both, 0 none | either, to one that [`HEARS_PATH`] |
//!
//! The version covers the hello and every body: a change to either is a new version. A kind that a feature bit of the hello stands for is none: it
//! goes only to one that has the bit. The security type says what
//! protects the stream after the hello; only [`SECURITY_NONE`] exists yet.

mod hello;

pub use hello::{Hello, HelloError};

use crate::epoch::Epoch;
use crate::path::Carrying;
use crate::translate::{Base, LearnedInitial};
use std::fmt;
use std::time::Duration;

/// First bytes of a hello.
pub const MAGIC: [u8; 8] = *b"COLOLINK";
/// The link version this build speaks.
pub const VERSION: u16 = 3;
/// The stream after the hello is plain text.
pub const SECURITY_NONE: u8 = 0;
/// Longest security blob of a hello.
pub const MAX_SECURITY_BLOB: usize = 4096;
/// Longest frame that a message carries: what QEMU's chardev framing allows too.
pub const MAX_FRAME: usize = 69_632;
/// Longest message without its length field: kind, epoch, index, frame.
pub const MAX_MESSAGE: usize = 1 + 8 + 8 + MAX_FRAME;
/// Longest text of a bye.
pub const MAX_BYE: usize = 512;
/// Most bases in one message; more are said in several.
pub const MAX_BASES: usize = 1024;
/// Feature bit: the agent follows the monitor of its own QEMU. Both or neither.
pub const HEARS_QEMU: u64 = 1;
/// Feature bit: the agent takes [`Message::Path`].
pub const HEARS_PATH: u64 = 2;
/// Length of a hello without its blob.
const HELLO: usize = 8 + 2 + 1 + 1 + 16 + 8 + 2;

/// Which end of the pair an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one whose guest is heard.
    Primary,
    /// The one whose guest confirms.
    Secondary,
}

impl Role {
    /// The other end.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Primary => 1,
            Self::Secondary => 2,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// Numbers that an agent sends along with its heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// The sender's monotonic clock, nanoseconds.
    pub sent: u64,
    /// `sent` of the last heartbeat that the sender received; 0 before the first.
    pub echo: u64,
    /// Frames of the stream it reads (input or output) that the sender has taken from the link.
    pub frames: u64,
    /// Secondary: frames of input that its guest did not get, ever. Primary: 0.
    pub lost: u64,
}

/// Why an agent leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByeReason {
    /// It was told to stop.
    Exit,
    /// It does not accept this peer.
    Refused,
    /// The peer broke the protocol.
    Protocol,
    /// The stream did not drain.
    Stalled,
    /// Primary: its uplink is closed and all it held is dropped; the judge may be asked at once.
    Closed,
    /// Its VM is gone.
    VmGone,
    /// It has taken over.
    TookOver,
}

impl ByeReason {
    const ALL: [Self; 7] = [
        Self::Exit,
        Self::Refused,
        Self::Protocol,
        Self::Stalled,
        Self::Closed,
        Self::VmGone,
        Self::TookOver,
    ];

    const fn code(self) -> u8 {
        match self {
            Self::Exit => 1,
            Self::Refused => 2,
            Self::Protocol => 3,
            Self::Stalled => 4,
            Self::Closed => 5,
            Self::VmGone => 6,
            Self::TookOver => 7,
        }
    }

    /// The name used in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
            Self::Stalled => "stalled",
            Self::Closed => "closed",
            Self::VmGone => "vm-gone",
            Self::TookOver => "took-over",
        }
    }
}

/// Why the secondary needs a checkpoint. (Input that its guest did not get is told by the heartbeat.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskReason {
    /// Its translation table is full: further connections cannot be translated.
    TranslationFull,
    /// Output of its guest was lost before the agent saw it.
    CaptureLost,
    /// The clocks do not say on which side of the last cut some output of its guest was said.
    CutUnsure,
    /// It may have missed a checkpoint: the session has to start anew.
    EpochsInDoubt,
}

impl AskReason {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::TranslationFull, Self::CaptureLost, Self::CutUnsure, Self::EpochsInDoubt];

    const fn code(self) -> u8 {
        match self {
            Self::TranslationFull => 1,
            Self::CaptureLost => 2,
            Self::CutUnsure => 3,
            Self::EpochsInDoubt => 4,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.code() == code)
    }
}

/// One message. Frames and texts are borrowed from the buffer they were read from.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// A frame client → guest.
    Input {
        /// The primary's epoch when it was taken from the mirror ring.
        epoch: Epoch,
        /// Its number among all that went to the primary's guest.
        index: u64,
        /// The frame.
        frame: &'a [u8],
    },
    /// A frame that the secondary's guest said, in wire space.
    Output {
        /// The secondary's epoch when it was captured.
        epoch: Epoch,
        /// The frame.
        frame: &'a [u8],
    },
    /// What the primary's guest chose for a new TCP flow.
    Learned {
        /// The primary's epoch.
        epoch: Epoch,
        /// The flow and its numbers.
        initial: LearnedInitial,
    },
    /// The primary's guest was copied: this epoch ends.
    Cut(Epoch),
    /// All output of this epoch has been sent.
    End(Epoch),
    /// The state is owned, what follows is of this epoch. With the epoch in which a session starts: the secondary
    /// stands in no checkpoint, and will see the next one from its beginning.
    Begin(Epoch),
    /// A session starts; whatever was cut in the last one is void.
    Session {
        /// Epoch it starts in.
        epoch: Epoch,
        /// Names the protection; 0 where no QEMU is followed.
        term: u64,
        /// Output leaves the primary for this long after the last thing that the secondary confirms to have heard.
        lease: Duration,
    },
    /// Translation that the state that ended `epoch` brings along; at most [`MAX_BASES`], more in further messages.
    Bases {
        /// The epoch that ends.
        epoch: Epoch,
        /// By flow.
        bases: Vec<Base>,
    },
    /// Input before `first` is part of the state that ended `epoch`.
    InputCut {
        /// The epoch that ended.
        epoch: Epoch,
        /// The first index that the secondary's guest still has to get.
        first: u64,
    },
    /// Sign of life with numbers.
    Heartbeat(Heartbeat),
    /// The secondary needs a checkpoint.
    Ask(AskReason),
    /// Which of the sender's interfaces carry frames.
    Path(Carrying),
    /// The sender closes the link.
    Bye {
        /// Why, for the machine.
        reason: ByeReason,
        /// Why, for people; at most [`MAX_BYE`] bytes.
        text: &'a str,
    },
}

/// Why the stream of messages cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A length field out of range.
    #[error("message of {got} bytes announced, legal are 1 to {MAX_MESSAGE}")]
    Length {
        /// What came.
        got: usize,
    },
    /// A kind that this version does not have.
    #[error("message of unknown kind {got}")]
    Kind {
        /// What came.
        got: u8,
    },
    /// A body that its kind cannot have.
    #[error("{kind} message with an impossible body of {got} bytes")]
    Body {
        /// Name of the kind.
        kind: &'static str,
        /// Length of the body that came.
        got: usize,
    },
}

impl<'a> Message<'a> {
    /// Appends the message to `out`. A frame over [`MAX_FRAME`] must not come here (the data path refuses it); it
    /// would be refused by the peer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let mut put = |kind: u8, numbers: &[u64], tail: &[u8]| {
            out.push(kind);
            for n in numbers {
                out.extend_from_slice(&n.to_be_bytes());
            }
            out.extend_from_slice(tail);
        };
        match self {
            Self::Input { epoch, index, frame } => put(1, &[epoch.0, *index], frame),
            Self::Output { epoch, frame } => put(2, &[epoch.0], frame),
            Self::Learned { epoch, initial } => {
                let mut bytes = Vec::with_capacity(LearnedInitial::MAX_ENCODED);
                initial.encode(&mut bytes);
                put(3, &[epoch.0], &bytes);
            }
            Self::Cut(epoch) => put(4, &[epoch.0], &[]),
            Self::End(epoch) => put(5, &[epoch.0], &[]),
            Self::Begin(epoch) => put(6, &[epoch.0], &[]),
            Self::InputCut { epoch, first } => put(7, &[epoch.0, *first], &[]),
            Self::Heartbeat(h) => put(8, &[h.sent, h.echo, h.frames, h.lost], &[]),
            Self::Ask(reason) => put(10, &[], &[reason.code()]),
            Self::Path(path) => put(13, &[], &[u8::from(path.guest) | u8::from(path.uplink) << 1]),
            Self::Session { epoch, term, lease } => {
                put(11, &[epoch.0, *term, u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)], &[]);
            }
            Self::Bases { epoch, bases } => {
                let mut bytes = Vec::with_capacity(bases.len() * (1 + Base::MAX_ENCODED));
                for base in bases {
                    let at = bytes.len();
                    bytes.push(0);
                    base.encode(&mut bytes);
                    bytes[at] = u8::try_from(bytes.len() - at - 1).unwrap_or_default();
                }
                put(12, &[epoch.0], &bytes);
            }
            Self::Bye { reason, text } => {
                let end = (0..=MAX_BYE.min(text.len()))
                    .rev()
                    .find(|&i| text.is_char_boundary(i))
                    .unwrap_or_default();
                put(9, &[], &[&[reason.code()], &text.as_bytes()[..end]].concat());
            }
        }
        let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Reads a message from the start of `bytes`: it and the bytes it takes, or `None` if more are needed.
    ///
    /// # Errors
    /// The stream is not one of ours, or no longer: it has to be closed.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, MessageError> {
        let mut fields = Fields(bytes);
        let Some(length) = fields.u32() else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(1..=MAX_MESSAGE).contains(&length) {
            return Err(MessageError::Length { got: length });
        }
        let Some(body) = fields.take(length) else { return Ok(None) };
        Ok(Some((Self::body(body[0], &body[1..])?, 4 + length)))
    }

    fn body(kind: u8, body: &'a [u8]) -> Result<Self, MessageError> {
        let mut f = Fields(body);
        let (name, message) = match kind {
            1 => (
                "input",
                f.epoch().zip(f.u64()).map(|(epoch, index)| Self::Input { epoch, index, frame: f.rest() }),
            ),
            2 => ("output", f.epoch().map(|epoch| Self::Output { epoch, frame: f.rest() })),
            3 => (
                "learned",
                f.epoch()
                    .zip(LearnedInitial::decode(f.rest()).ok())
                    .map(|(epoch, initial)| Self::Learned { epoch, initial }),
            ),
            4 => ("cut", f.epoch().map(Self::Cut)),
            5 => ("end", f.epoch().map(Self::End)),
            6 => ("begin", f.epoch().map(Self::Begin)),
            7 => ("input-cut", f.epoch().zip(f.u64()).map(|(epoch, first)| Self::InputCut { epoch, first })),
            8 => ("heartbeat", f.heartbeat().map(Self::Heartbeat)),
            9 => ("bye", f.bye()),
            10 => ("ask", f.u8().and_then(AskReason::of_code).map(Self::Ask)),
            11 => ("session", f.session()),
            12 => ("bases", f.epoch().zip(f.bases()).map(|(epoch, bases)| Self::Bases { epoch, bases })),
            13 => ("path", f.u8().and_then(carrying).map(Self::Path)),
            got => return Err(MessageError::Kind { got }),
        };
        match message {
            Some(message) if f.0.is_empty() => Ok(message),
            _ => Err(MessageError::Body { kind: name, got: body.len() }),
        }
    }
}

fn carrying(code: u8) -> Option<Carrying> {
    (code <= 3).then_some(Carrying { guest: code & 1 != 0, uplink: code & 2 != 0 })
}

/// Bytes read from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[b]| b)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn epoch(&mut self) -> Option<Epoch> {
        self.u64().map(Epoch)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn heartbeat(&mut self) -> Option<Heartbeat> {
        Some(Heartbeat { sent: self.u64()?, echo: self.u64()?, frames: self.u64()?, lost: self.u64()? })
    }

    fn session(&mut self) -> Option<Message<'a>> {
        let (epoch, term) = (self.epoch()?, self.u64()?);
        Some(Message::Session { epoch, term, lease: Duration::from_millis(self.u64()?) })
    }

    fn bases(&mut self) -> Option<Vec<Base>> {
        let mut bases = Vec::new();
        while !self.0.is_empty() {
            let length = usize::from(self.u8()?);
            bases.push(Base::decode(self.take(length)?).ok().filter(|_| bases.len() < MAX_BASES)?);
        }
        Some(bases)
    }

    fn bye(&mut self) -> Option<Message<'a>> {
        let code = self.u8()?;
        let reason = ByeReason::ALL.into_iter().find(|r| r.code() == code)?;
        let text = self.rest();
        if text.len() > MAX_BYE {
            return None;
        }
        Some(Message::Bye { reason, text: std::str::from_utf8(text).ok()? })
    }
}

#[cfg(test)]
mod tests;
