//! Frames for the tests, and a checksum oracle that shares no code with what it checks.

use super::super::{Event, Learned, Limits, Outcome, Translator, initial_of};
use crate::mono::Mono;
use std::time::Duration;

pub const SYN: u8 = 0x02;
pub const SYN_ACK: u8 = 0x12;
pub const ACK: u8 = 0x10;
pub const FIN_ACK: u8 = 0x11;
pub const RST: u8 = 0x04;
pub const RST_ACK: u8 = 0x14;

pub const GUEST_PORT: u16 = 80;
pub const PEER_PORT: u16 = 40_000;

/// What a connection's frames look like below TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Net {
    pub v6: bool,
    /// VLAN tags.
    pub tags: usize,
    /// IPv4 options, or IPv6 extension headers.
    pub extras: bool,
    /// Tells connections apart.
    pub host: u8,
}

/// A TCP segment.
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Tcp {
    pub fn new(seq: u32, ack: u32, flags: u8) -> Self {
        Self { seq, ack, flags, ..Self::default() }
    }

    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    pub fn options(mut self, options: &[u8]) -> Self {
        self.options.extend_from_slice(options);
        self
    }

    /// Adds a timestamps option, after `pad` no-operations.
    pub fn timestamps(mut self, pad: usize, value: u32, echo: u32) -> Self {
        self.options.extend(std::iter::repeat_n(1, pad));
        self.options.extend([8, 10]);
        self.options.extend(value.to_be_bytes());
        self.options.extend(echo.to_be_bytes());
        self
    }

    /// Adds a SACK option.
    pub fn sack(mut self, edges: &[u32]) -> Self {
        self.options.extend([5, u8::try_from(2 + 4 * edges.len()).unwrap()]);
        self.options.extend(edges.iter().flat_map(|e| e.to_be_bytes()));
        self
    }

    /// The TCP bytes with a right checksum.
    fn bytes(&self, net: Net, output: bool) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let ports = if output { [GUEST_PORT, PEER_PORT] } else { [PEER_PORT, GUEST_PORT] };
        let mut b: Vec<u8> = ports.iter().flat_map(|p| p.to_be_bytes()).collect();
        b.extend(self.seq.to_be_bytes());
        b.extend(self.ack.to_be_bytes());
        b.push(u8::try_from((20 + options.len()) / 4).unwrap() << 4);
        b.push(self.flags);
        b.extend([0x20, 0, 0, 0, 0, 0]);
        b.extend(options);
        b.extend(&self.payload);
        let sum = !checksum(&pseudo(net, output, 6, b.len()), &b);
        b[16..18].copy_from_slice(&sum.to_be_bytes());
        b
    }
}

impl Net {
    /// The frame of the guest that says `tcp`.
    pub fn output(self, tcp: &Tcp) -> Vec<u8> {
        self.packet(true, 6, &tcp.bytes(self, true))
    }

    /// The frame toward the guest that says `tcp`.
    pub fn input(self, tcp: &Tcp) -> Vec<u8> {
        self.packet(false, 6, &tcp.bytes(self, false))
    }

    /// An ICMP error (unreachable) quoting the first `quoted` bytes of the IP packet in `frame`.
    pub fn error(self, output: bool, frame: &[u8], quoted: usize) -> Vec<u8> {
        let quote = &frame[self.ip_at()..];
        let mut b = vec![if self.v6 { 1 } else { 3 }, 4, 0, 0, 0, 0, 0, 0];
        b.extend(&quote[..quoted.min(quote.len())]);
        let pseudo = if self.v6 { pseudo(self, output, 58, b.len()) } else { Vec::new() };
        let sum = !checksum(&pseudo, &b);
        b[2..4].copy_from_slice(&sum.to_be_bytes());
        self.packet(output, if self.v6 { 58 } else { 1 }, &b)
    }

    /// An IP packet in a frame.
    pub fn packet(self, output: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut f = self.ethernet();
        f.extend(self.ip(output, protocol, payload.len(), 0, 0));
        f.extend(payload);
        f
    }

    /// The IP packet in `frame` cut into fragments at the given offsets of its payload (multiples of 8).
    pub fn fragments(self, output: bool, frame: &[u8], id: u16, at: &[usize]) -> Vec<Vec<u8>> {
        let payload = &frame[self.payload_at()..];
        let mut cuts = vec![0];
        cuts.extend(at);
        cuts.push(payload.len());
        cuts.windows(2)
            .map(|w| {
                let more = w[1] < payload.len();
                let field = u16::try_from(w[0] / 8).unwrap() << if self.v6 { 3 } else { 0 };
                let field = field | if self.v6 { u16::from(more) } else { u16::from(more) << 13 };
                let mut f = self.ethernet();
                if self.v6 {
                    let part = w[1] - w[0];
                    f.extend(self.ip(output, 44, 8 + part, 0, 0));
                    f.extend([6, 0]);
                    f.extend(field.to_be_bytes());
                    f.extend(u32::from(id).to_be_bytes());
                } else {
                    f.extend(self.ip(output, 6, w[1] - w[0], id, field));
                }
                f.extend(&payload[w[0]..w[1]]);
                f
            })
            .collect()
    }

    fn ethernet(self) -> Vec<u8> {
        let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tag in 0..self.tags {
            f.extend(if tag + 1 < self.tags { [0x88, 0xa8] } else { [0x81, 0] });
            f.extend([0x60, u8::try_from(10 + tag).unwrap()]);
        }
        f.extend(if self.v6 { [0x86, 0xdd] } else { [8, 0] });
        f
    }

    fn ip(self, output: bool, protocol: u8, length: usize, id: u16, fragment: u16) -> Vec<u8> {
        let (src, dst) = self.addresses(output);
        let mut b = Vec::new();
        if self.v6 {
            let extras: &[u8] =
                if self.extras { &[60, 0, 1, 4, 0, 0, 0, 0, protocol, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
            b.extend([0x60, 0, 0, 0]);
            b.extend(u16::try_from(extras.len() + length).unwrap().to_be_bytes());
            b.extend([if self.extras { 0 } else { protocol }, 64]);
            b.extend(src);
            b.extend(dst);
            b.extend(extras);
        } else {
            let options: &[u8] = if self.extras { &[0x94, 4, 0, 0] } else { &[] };
            let header = 20 + options.len();
            b.extend([0x40 | u8::try_from(header / 4).unwrap(), 0]);
            b.extend(u16::try_from(header + length).unwrap().to_be_bytes());
            b.extend(id.to_be_bytes());
            b.extend(fragment.to_be_bytes());
            b.extend([64, protocol, 0, 0]);
            b.extend(src);
            b.extend(dst);
            b.extend(options);
            let sum = !checksum(&[], &b);
            b[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        b
    }

    fn addresses(self, output: bool) -> (Vec<u8>, Vec<u8>) {
        let address = |last: u8| {
            let mut a = if self.v6 { vec![0xfd; 16] } else { vec![10, 0, self.host, 0] };
            let n = a.len();
            a[n - 2] = self.host;
            a[n - 1] = last;
            a
        };
        if output { (address(1), address(2)) } else { (address(2), address(1)) }
    }

    pub fn ip_at(self) -> usize {
        14 + 4 * self.tags
    }

    /// Offset of what IP carries.
    pub fn payload_at(self) -> usize {
        self.ip_at()
            + match (self.v6, self.extras) {
                (false, false) => 20,
                (false, true) => 24,
                (true, false) => 40,
                (true, true) => 56,
            }
    }

    /// Whether the checksum of the TCP segment or ICMP message in `frame` is right, by full recomputation.
    pub fn sound(self, output: bool, frame: &[u8]) -> bool {
        let b = &frame[self.payload_at()..];
        let protocol = match (self.v6, self.extras) {
            (false, _) => frame[self.ip_at() + 9],
            (true, false) => frame[self.ip_at() + 6],
            (true, true) => frame[self.payload_at() - 8],
        };
        let bare = protocol == 1;
        let pseudo = if bare { Vec::new() } else { pseudo(self, output, protocol, b.len()) };
        checksum(&pseudo, b) == 0xffff
    }

    /// The segment in `frame`, options included.
    pub fn read(self, frame: &[u8]) -> Tcp {
        let b = &frame[self.payload_at()..];
        let word = |at: usize| u32::from_be_bytes(b[at..at + 4].try_into().unwrap());
        let header = usize::from(b[12] >> 4) * 4;
        Tcp {
            seq: word(4),
            ack: word(8),
            flags: b[13],
            options: b[20..header].to_vec(),
            payload: b[header..].to_vec(),
        }
    }
}

fn pseudo(net: Net, output: bool, protocol: u8, length: usize) -> Vec<u8> {
    let (src, dst) = net.addresses(output);
    let mut b = [src, dst].concat();
    b.extend(u32::try_from(length).unwrap().to_be_bytes());
    b.extend([0, 0, 0, protocol]);
    b
}

/// RFC 1071, word by word.
fn checksum(pseudo: &[u8], bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for part in [pseudo, bytes] {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    u16::try_from(sum).unwrap()
}

/// Milliseconds since the test began.
pub fn at(ms: u64) -> Mono {
    Mono::from_millis(ms)
}

/// The secondary's translator with its guest and its client, in one connection.
pub struct Host {
    pub net: Net,
    pub t: Translator,
    pub now: Mono,
}

impl Host {
    pub fn new(net: Net) -> Self {
        Self { net, t: Translator::new(Limits::default()), now: at(0) }
    }

    /// The guest says `tcp`: what goes on, if anything does.
    pub fn output(&mut self, tcp: &Tcp) -> Option<Tcp> {
        let mut frame = self.net.output(tcp);
        let outcome = self.t.output(self.now, &mut frame);
        self.judge(true, outcome, &self.net.output(tcp), frame)
    }

    /// The client says `tcp`: what reaches the guest, if anything does.
    pub fn input(&mut self, tcp: &Tcp) -> Option<Tcp> {
        let mut frame = self.net.input(tcp);
        let outcome = self.t.input(self.now, &mut frame);
        self.judge(false, outcome, &self.net.input(tcp), frame)
    }

    fn judge(&self, output: bool, outcome: Outcome, before: &[u8], after: Vec<u8>) -> Option<Tcp> {
        assert!(self.net.sound(output, &after), "checksum after {outcome:?}");
        if outcome != Outcome::Translated {
            assert_eq!(before, after, "{outcome:?} changed the frame");
        }
        outcome.forward().then(|| self.net.read(&after))
    }

    /// The primary's guest says `tcp`, a SYN or SYN-ACK.
    pub fn primary(&mut self, tcp: &Tcp) -> Learned {
        let initial = initial_of(&self.net.output(tcp)).expect("a SYN");
        self.t.learn(self.now, &initial)
    }

    /// The events so far.
    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.t.next_event()).collect()
    }

    pub fn count(&self, name: &str) -> u64 {
        let (_, value) = self.t.counters().named().find(|(n, _)| *n == format!("translate_{name}")).unwrap();
        value
    }
}

/// Initial numbers: primary, secondary, client. The first wraps early.
pub const P: u32 = 0xffff_fff0;
pub const S: u32 = 1_000;
pub const C: u32 = 7_000;
/// Timestamps: primary, secondary, client.
pub const TP: u32 = 500_000;
pub const TS: u32 = 9_000_000;
pub const TC: u32 = 77;

/// A number of the primary's guest, `n` after its initial one.
pub const fn p(n: u32) -> u32 {
    P.wrapping_add(n)
}

/// The answer to the client's SYN.
pub fn syn_ack(isn: u32, ts: u32) -> Tcp {
    Tcp::new(isn, C + 1, SYN_ACK).timestamps(2, ts, TC)
}

/// A connection that the client opened and the primary's agent told about.
pub fn accepted(net: Net) -> Host {
    let mut h = Host::new(net);
    h.accept();
    h
}

impl Host {
    /// The client opens the connection.
    pub fn accept(&mut self) {
        self.input(&Tcp::new(C, 0, SYN).timestamps(2, TC, 0)).unwrap();
        assert_eq!(self.primary(&syn_ack(P, TP)), Learned::Waiting);
        assert_eq!(
            self.output(&syn_ack(S, TS)).unwrap().seq,
            S,
            "the comparator pairs initial numbers itself"
        );
        let ack = self.input(&Tcp::new(C + 1, p(1), ACK).timestamps(2, TC + 1, TP)).unwrap();
        assert_eq!(ack.ack, S + 1);
        assert_eq!(ack.options, Tcp::default().timestamps(2, TC + 1, TS).options);
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.t.tick(self.now);
    }
}
