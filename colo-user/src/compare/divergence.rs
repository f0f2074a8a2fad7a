//! Why a checkpoint is asked for.

use super::FlowKey;
use crate::wire::Seq;
use serde::{Serialize, Serializer};
use std::fmt;

/// Bytes of each side that a [`Divergence`] quotes.
pub const EXCERPT: usize = 16;

/// What differed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DivergenceKind {
    /// Other bytes at the same place.
    Payload,
    /// The same place ends earlier on one side, or a datagram has another length.
    Length,
    /// SYN options, control bits or, of anything but TCP, header fields differ.
    Flags,
    /// The secondary has not said in time what the primary said.
    LateSecondary,
    /// The primary has not said in time what the secondary said.
    LatePrimary,
    /// Offline: the primary said it, the secondary never did.
    Missing,
    /// Offline: the secondary said it, the primary never did.
    Extra,
}

impl DivergenceKind {
    /// All kinds, in the order of declaration.
    pub const ALL: [Self; 7] = [
        Self::Payload,
        Self::Length,
        Self::Flags,
        Self::LateSecondary,
        Self::LatePrimary,
        Self::Missing,
        Self::Extra,
    ];

    /// The name used in JSON, metrics and environment variables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Length => "length",
            Self::Flags => "flags",
            Self::LateSecondary => "late-secondary",
            Self::LatePrimary => "late-primary",
            Self::Missing => "missing",
            Self::Extra => "extra",
        }
    }
}

/// A difference between what the two guests said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// The flow, guest's end first.
    #[serde(serialize_with = "flow_text")]
    pub flow: FlowKey,
    /// What differed.
    pub kind: DivergenceKind,
    /// TCP: the sequence number of the segment in question, in the client's (wire) space. The first differing byte
    /// is at `seq + offset`.
    #[serde(serialize_with = "seq_number")]
    pub seq: Option<Seq>,
    /// First differing byte: in the segment's payload for TCP, in the datagram's payload for the rest.
    pub offset: Option<u64>,
    /// What the primary said there, at most [`EXCERPT`] bytes.
    #[serde(serialize_with = "hex")]
    pub primary: Vec<u8>,
    /// What the secondary said there, likewise.
    #[serde(serialize_with = "hex")]
    pub secondary: Vec<u8>,
}

fn flow_text<S: Serializer>(flow: &FlowKey, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(flow)
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn seq_number<S: Serializer>(seq: &Option<Seq>, s: S) -> Result<S::Ok, S::Error> {
    seq.map(|n| n.0).serialize(s)
}

fn hex<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&Hex(bytes))
}

/// Bytes as lower-case hexadecimal digits.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.flow, self.kind.name())?;
        if let Some(seq) = self.seq {
            write!(f, " at seq {seq}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " offset {offset}")?;
        }
        if !self.primary.is_empty() || !self.secondary.is_empty() {
            write!(f, " primary [{}] secondary [{}]", Hex(&self.primary), Hex(&self.secondary))?;
        }
        Ok(())
    }
}

/// Why a checkpoint is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// The guests said different things, or one is late.
    Divergence(Divergence),
    /// A bound was reached.
    Overload(Overload),
}

impl Cause {
    /// The name used in counters: the divergence's kind, or `overload`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Divergence(d) => d.kind.name(),
            Self::Overload(_) => "overload",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Divergence(d) => d.fmt(f),
            Self::Overload(o) => o.fmt(f),
        }
    }
}

/// A bound of [`super::Limits`] that was reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Overload {
    /// Which, by its field's name.
    pub bound: &'static str,
    /// Its value.
    pub limit: usize,
    /// The flow that met it, if it is a flow's.
    pub flow: Option<FlowKey>,
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bound `{}` of {} reached", self.bound, self.limit)?;
        self.flow.as_ref().map_or(Ok(()), |flow| write!(f, " by {flow}"))
    }
}
