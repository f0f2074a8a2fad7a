//! What a SYN or SYN-ACK says, in a form in which two of them can be compared.

use crate::wire::tcp::option;
use crate::wire::{Seq, TcpFlags, TcpSegment};

/// A SYN or SYN-ACK. The initial number is the guest's own: each guest picks another, and that is no difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syn {
    /// The guest's initial sequence number.
    pub initial: Seq,
    /// Everything that both guests must say alike.
    pub said: Box<[u8]>,
}

impl Syn {
    /// Reads `segment`, which has SYN set.
    #[must_use]
    pub fn of(segment: &TcpSegment<'_>) -> Self {
        let mut options: Vec<(u8, &[u8])> = segment
            .options()
            // Both clocks' values differ by nature; that the option is there does not.
            .map(|o| (o.kind, if o.kind == option::TIMESTAMPS { &[][..] } else { o.data }))
            .collect();
        options.sort_unstable();
        let mut said = vec![u8::from(segment.flags.has(TcpFlags::ACK))];
        for (kind, data) in options {
            // Options are at most 40 bytes together.
            said.extend([kind, data.len() as u8]);
            said.extend_from_slice(data);
        }
        // Data in a SYN (RFC 7413) is said at an initial number of the guest's own: compared here.
        said.extend_from_slice(segment.payload);
        Self { initial: segment.seq, said: said.into() }
    }

    /// Whether both guests said the same.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.said == other.said
    }
}
