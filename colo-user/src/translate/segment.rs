//! Finding the numbers: where in a frame a TCP header lies, or the quote of one in an ICMP error, and which of its
//! fields are sequence numbers or timestamps of the guest.

use super::flow::{Direction, Flow};
use crate::wire::ether::ethertype;
use crate::wire::icmp::IcmpKind;
use crate::wire::ip::Extensions;
use crate::wire::tcp::{field, option};
use crate::wire::{Ether, Fragment, IcmpMessage, Ip, IpFamily, Seq, TcpFlags, TcpSegment, be16, be32, proto};
use smallvec::SmallVec;

/// What a frame has to do with the translator.
#[derive(Clone, Debug)]
pub(super) enum Located {
    /// A whole TCP segment.
    Tcp(Segment),
    /// A fragment of one, or of what may turn out to be one behind IPv6 extension headers.
    Fragment(Piece),
    /// An ICMP error that quotes one.
    Quote(Quote),
    /// Anything else, whatever is malformed included: not ours to alter.
    Other,
}

/// A way to sign segments that covers the numbers, so that nobody but the guest can change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signature {
    /// TCP MD5 signature option (RFC 2385).
    Md5,
    /// TCP authentication option (RFC 5925).
    Ao,
}

impl Signature {
    /// The name operators know.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "TCP-MD5",
            Self::Ao => "TCP-AO",
        }
    }
}

/// Values of a timestamps option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timestamps {
    pub(super) value: u32,
    pub(super) echo: u32,
}

/// An option that carries numbers: offset of its data in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    Timestamps { at: usize },
    Sack { at: usize, blocks: usize },
}

/// 40 option bytes hold at most four options of 10 bytes.
pub(super) type NumberOptions = SmallVec<[Numbers; 4]>;

/// A TCP segment in a frame.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) flow: Flow,
    /// Offset of the TCP header.
    pub(super) at: usize,
    pub(super) seq: Seq,
    pub(super) ack: Seq,
    pub(super) flags: TcpFlags,
    /// Bytes of data.
    pub(super) payload: u32,
    pub(super) timestamps: Option<Timestamps>,
    pub(super) numbers: NumberOptions,
    pub(super) signature: Option<Signature>,
}

impl Segment {
    /// Whether the segment begins a connection: SYN or SYN-ACK.
    pub(super) fn begins(&self) -> bool {
        self.flags.has(TcpFlags::SYN) && !self.flags.has(TcpFlags::RST)
    }

    /// Sequence number after everything the segment occupies.
    pub(super) fn end(&self) -> Seq {
        let controls = u32::from(self.flags.has(TcpFlags::SYN)) + u32::from(self.flags.has(TcpFlags::FIN));
        self.seq + self.payload + controls
    }
}

/// A fragment in a frame, of a TCP segment for all that its own headers say.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) ether: Ether,
    pub(super) ip: Ip,
    pub(super) fragment: Fragment,
}

/// A TCP header quoted by an ICMP error, possibly cut. Its `flow` names the guest as guest.
#[derive(Clone, Debug)]
pub(super) struct Quote {
    pub(super) flow: Flow,
    /// Offset of the ICMP message, whose checksum covers the quote.
    pub(super) icmp: usize,
    /// Offset of the quoted TCP header.
    pub(super) at: usize,
    /// End of the quote.
    pub(super) end: usize,
    pub(super) numbers: NumberOptions,
}

/// Looks at a frame that goes in `direction`.
pub(super) fn locate(frame: &[u8], direction: Direction) -> Located {
    find(frame, direction).unwrap_or(Located::Other)
}

fn find(frame: &[u8], direction: Direction) -> Option<Located> {
    let ether = Ether::parse(frame).ok()?;
    if !matches!(ether.ethertype, ethertype::IPV4 | ethertype::IPV6) {
        return None;
    }
    let ip = Ip::parse(frame, ether.payload, ether.ethertype).ok()?;
    match (ip.protocol, ip.fragment) {
        (proto::TCP | proto::ROUTING | proto::DEST_OPTIONS | proto::AH, Some(fragment))
            if ip.protocol == proto::TCP || ip.family == IpFamily::V6 =>
        {
            Some(Located::Fragment(Piece { ether, ip, fragment }))
        }
        (proto::TCP, None) => segment(frame, &ether, &ip, direction).map(Located::Tcp),
        (proto::ICMP | proto::ICMPV6, None) => quote(frame, &ether, &ip, direction).map(Located::Quote),
        _ => None,
    }
}

/// Reads the TCP segment that `ip` carries whole.
pub(super) fn segment(frame: &[u8], ether: &Ether, ip: &Ip, direction: Direction) -> Option<Segment> {
    let tcp = TcpSegment::parse(&frame[ip.payload..ip.end]).ok()?;
    let mut timestamps = None;
    let mut signature = None;
    for o in tcp.options() {
        match (o.kind, o.data.len()) {
            (option::TIMESTAMPS, 8) => {
                timestamps = Some(Timestamps { value: be32(o.data, 0), echo: be32(o.data, 4) });
            }
            (option::MD5, _) => signature = Some(Signature::Md5),
            (option::AO, _) => signature = Some(Signature::Ao),
            _ => {}
        }
    }
    Some(Segment {
        flow: Flow::new(ether, ip, [tcp.src_port, tcp.dst_port], direction),
        at: ip.payload,
        seq: tcp.seq,
        ack: tcp.ack,
        flags: tcp.flags,
        // A segment is shorter than 64 KiB, or than the reassembled datagram's bound.
        payload: u32::try_from(tcp.payload.len()).ok()?,
        timestamps,
        numbers: number_options(&tcp, ip.payload + field::OPTIONS),
        signature,
    })
}

/// The options of `tcp` that carry numbers; `at` is the frame's offset of the first option byte.
fn number_options(tcp: &TcpSegment<'_>, at: usize) -> NumberOptions {
    tcp.options()
        .filter_map(|o| match (o.kind, o.data.len()) {
            (option::TIMESTAMPS, 8) => Some(Numbers::Timestamps { at: at + o.at + 2 }),
            (option::SACK, n) if n % 8 == 0 => Some(Numbers::Sack { at: at + o.at + 2, blocks: n / 8 }),
            _ => None,
        })
        .collect()
}

/// Reads the quote in an ICMP error. RFC 792 promises 8 bytes of the quoted transport header, RFC 1812 and
/// RFC 4443 as much as fits: each field is taken if it is there.
fn quote(frame: &[u8], ether: &Ether, ip: &Ip, direction: Direction) -> Option<Quote> {
    let family = match ip.protocol {
        proto::ICMP => IpFamily::V4,
        _ => IpFamily::V6,
    };
    let message = IcmpMessage::parse(family, &frame[ip.payload..ip.end]).ok()?;
    if family != ip.family || message.kind != IcmpKind::Error {
        return None;
    }
    let start = ip.payload + IcmpMessage::HEADER;
    let quoted = quoted_ip(frame, start, ip.end, family)?;
    let at = quoted.payload;
    let header = frame.get(at..ip.end).filter(|h| h.len() >= 8)?;
    // The quote of what the guest receives is in a frame that the guest sends, and the other way round.
    let quoted_direction = match direction {
        Direction::Output => Direction::Input,
        Direction::Input => Direction::Output,
    };
    let flow = Flow::new(ether, &quoted, [be16(header, 0), be16(header, 2)], quoted_direction);
    let length = header.get(12).map_or(0, |&b| usize::from(b >> 4) * 4);
    let numbers = match header.get(field::OPTIONS..length.min(header.len())) {
        Some(options) => {
            let head = TcpSegment {
                src_port: 0,
                dst_port: 0,
                seq: Seq(0),
                ack: Seq(0),
                flags: TcpFlags::default(),
                window: 0,
                options,
                payload: &[],
            };
            number_options(&head, at + field::OPTIONS)
        }
        None => NumberOptions::new(),
    };
    Some(Quote { flow, icmp: ip.payload, at, end: ip.end, numbers })
}

/// The quoted IP header at `at`: TCP, not a later fragment. The quote is cut, so its own length field is beside
/// the point and [`Ip::parse`] would refuse it.
fn quoted_ip(frame: &[u8], at: usize, end: usize, family: IpFamily) -> Option<Ip> {
    let b = frame.get(at..end)?;
    let mut ip = Ip {
        family,
        src: [0; 16],
        dst: [0; 16],
        protocol: proto::TCP,
        start: at,
        payload: 0,
        end,
        missing: 0,
        fragment: None,
    };
    match family {
        IpFamily::V4 => {
            let header = usize::from(b.first()? & 0x0f) * 4;
            if b.len() < 20 || b[0] >> 4 != 4 || header < 20 || b[9] != proto::TCP || be16(b, 6) & 0x1fff != 0
            {
                return None;
            }
            ip.src[..4].copy_from_slice(&b[12..16]);
            ip.dst[..4].copy_from_slice(&b[16..20]);
            ip.payload = at + header;
        }
        IpFamily::V6 => {
            if b.len() < 40 || b[0] >> 4 != 6 {
                return None;
            }
            let chain = Extensions::walk(b[6], &b[40..]).ok()?;
            if chain.protocol != proto::TCP || chain.fragment.is_some_and(|f| f.offset != 0) {
                return None;
            }
            ip.src.copy_from_slice(&b[8..24]);
            ip.dst.copy_from_slice(&b[24..40]);
            ip.payload = at + 40 + chain.length;
        }
    }
    Some(ip)
}
