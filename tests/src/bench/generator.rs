//! Packets for both sides of a comparator: TCP data in many flows, one after the other.

use colo_user::wire::build::Tcp;

/// Where the changing fields lie in an untagged IPv4 frame without options.
const SOURCE_ADDRESS: usize = 14 + 12;
const SEQUENCE_NUMBER: usize = 14 + 20 + 4;

/// A case: how many flows, how much data in each packet.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Flows, visited in turn.
    pub flows: u32,
    /// TCP payload bytes.
    pub payload: u32,
}

impl Case {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> String {
        format!("{} B, {} flows", self.payload, self.flows)
    }
}

/// An endless supply of packets. Each says the next bytes of its flow.
#[derive(Clone, Debug)]
pub struct Generator {
    frame: Vec<u8>,
    case: Case,
    flow: u32,
    sequence: u32,
}

impl Generator {
    /// The first packet of each flow comes first.
    #[must_use]
    pub fn new(case: Case) -> Self {
        let (guest, client) = ("10.0.0.0:80", "192.0.2.9:40000");
        let data = vec![0x5a; case.payload as usize];
        let segment = Tcp::new(guest.parse().expect("an address"), client.parse().expect("an address"));
        Self { frame: segment.ack(1).seq(1).data(&data).frame(), case, flow: 0, sequence: 1 }
    }

    /// Bytes of one frame.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.frame.len()
    }

    /// The next frame. Its checksums are stale, which no comparator minds.
    pub fn next_frame(&mut self) -> &[u8] {
        let address = (10 << 24) | self.flow;
        self.frame[SOURCE_ADDRESS..SOURCE_ADDRESS + 4].copy_from_slice(&address.to_be_bytes());
        self.frame[SEQUENCE_NUMBER..SEQUENCE_NUMBER + 4].copy_from_slice(&self.sequence.to_be_bytes());
        self.flow += 1;
        if self.flow == self.case.flows {
            self.flow = 0;
            self.sequence = self.sequence.wrapping_add(self.case.payload);
        }
        &self.frame
    }

    /// Appends the next frame in QEMU's framing.
    pub fn append_framed(&mut self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.frame.len()).unwrap_or(u32::MAX);
        out.extend(length.to_be_bytes());
        out.extend_from_slice(self.next_frame());
    }
}
