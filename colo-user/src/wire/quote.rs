//! What an ICMP error quotes: the packet that it is about, cut to some length.

use super::ip::Extensions;
use super::{IpFamily, be16, proto};
use smallvec::SmallVec;
use std::ops::Range;

/// The flow that an ICMP error quotes a packet of.
pub struct Quoted {
    /// Addresses, protocol and ports, as bytes to compare.
    pub flow: SmallVec<[u8; 64]>,
    /// The quote ends before them.
    pub cut: bool,
}

impl Quoted {
    /// The flow of the packet that an ICMP error quotes, as far as it is there. The rest of it is what the client said as this guest heard
    /// it, in its own numbers.
    #[must_use]
    pub fn of(family: IpFamily, quote: &[u8]) -> Self {
        let mut quoted = Self { flow: SmallVec::new(), cut: false };
        let (protocol, at) = match family {
            IpFamily::V4 => {
                quoted.take(quote, 12..20);
                quoted.take(quote, 9..10);
                let header = usize::from(quote.first().map_or(0, |b| b & 0x0f)) * 4;
                let later = quote.len() >= 8 && be16(quote, 6) & 0x1fff != 0;
                (quote.get(9).copied(), Some(header).filter(|_| !later))
            }
            IpFamily::V6 => {
                quoted.take(quote, 8..40);
                let chain =
                    quote.get(6).zip(quote.get(40..)).map(|(&next, rest)| Extensions::walk(next, rest));
                match chain {
                    Some(Ok(chain)) => {
                        quoted.flow.push(chain.protocol);
                        let later = chain.fragment.is_some_and(|f| f.offset != 0);
                        (Some(chain.protocol), Some(40 + chain.length).filter(|_| !later))
                    }
                    _ => {
                        quoted.flow.extend(quote.get(6).copied());
                        quoted.cut = true;
                        (None, None)
                    }
                }
            }
        };
        // Ports, or an association's index; of an echo all but its checksum.
        let ranges = match protocol {
            Some(proto::TCP | proto::UDP | proto::ESP | proto::DCCP | proto::SCTP | proto::UDP_LITE) => {
                [0..4, 4..4]
            }
            Some(proto::ICMP | proto::ICMPV6) => [0..2, 4..8],
            _ => [0..0, 0..0],
        };
        for range in ranges {
            if let Some(at) = at.filter(|_| !range.is_empty()) {
                quoted.take(quote, at + range.start..at + range.end);
            }
        }
        quoted
    }

    fn take(&mut self, quote: &[u8], range: Range<usize>) {
        let there = range.start.min(quote.len())..range.end.min(quote.len());
        self.cut |= there != range;
        self.flow.extend_from_slice(&quote[there]);
    }
}
