//! What an agent says first, and why it may be refused.

use super::{Fields, HEARS_QEMU, HELLO, MAGIC, MAX_SECURITY_BLOB, Role, SECURITY_NONE, VERSION};

/// What an agent says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Which end it is.
    pub role: Role,
    /// New with every start of the agent: tells a peer that came back from one that was restarted.
    pub boot: [u8; 16],
    /// Feature bits ([`HEARS_QEMU`]); unknown ones are ignored.
    pub features: u64,
    /// What protects the stream after the hello.
    pub security: u8,
    /// What that needs to start, at most [`MAX_SECURITY_BLOB`] bytes.
    pub blob: Vec<u8>,
}

/// Why a hello was refused. The text goes to the log and, as the bye, to the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The first bytes are not the magic.
    #[error(
        "not a colo agent: expected a hello beginning with \"COLOLINK\", got {}; check that --peer names the other \
         agent's link and not another service", shown(.got)
    )]
    Magic {
        /// What came.
        got: Vec<u8>,
    },
    /// Another version.
    #[error(
        "peer speaks colo link version {got}, this build speaks {VERSION}: run the same colo release on both hosts"
    )]
    Version {
        /// What came.
        got: u16,
    },
    /// The peer has our own role or an unknown one.
    #[error(
        "peer says its role is {}, expected {expected}: run `colo primary` on one host and `colo secondary` on the other",
        role_name(*.got)
    )]
    Role {
        /// The role code that came.
        got: u8,
        /// The role that was to come.
        expected: Role,
    },
    /// A security type that this build does not know.
    #[error("peer asks for security type {got}, this build knows only {SECURITY_NONE} (plain text)")]
    Security {
        /// What came.
        got: u8,
    },
    /// A blob longer than allowed.
    #[error("peer announces a security blob of {got} bytes, the limit is {MAX_SECURITY_BLOB}")]
    Blob {
        /// What came.
        got: usize,
    },
    /// One of the two follows its QEMU and the other does not.
    #[error(
        "the {deaf} does not follow its QEMU and the {} does: give both agents --qmp, or neither", .deaf.peer()
    )]
    Monitor {
        /// The agent without `--qmp`.
        deaf: Role,
    },
    /// The stream ended inside the hello.
    #[error("peer closed the connection after {got} bytes of a hello of at least {HELLO}")]
    Truncated {
        /// Bytes that came.
        got: usize,
    },
}

fn shown(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn role_name(code: u8) -> String {
    [Role::Primary, Role::Secondary]
        .into_iter()
        .find(|r| r.code() == code)
        .map_or_else(|| format!("unknown ({code})"), |r| r.to_string())
}

impl Hello {
    /// The hello of an agent that starts now with boot id `boot`, in plain text.
    #[must_use]
    pub const fn plain(role: Role, boot: [u8; 16]) -> Self {
        Self { role, boot, features: 0, security: SECURITY_NONE, blob: Vec::new() }
    }

    /// Whether both agents follow their QEMUs, or neither.
    ///
    /// # Errors
    /// Only one does.
    pub fn agrees(&self, peer: &Self) -> Result<(), HelloError> {
        let hears = |hello: &Self| hello.features & HEARS_QEMU != 0;
        match (hears(self), hears(peer)) {
            (true, false) => Err(HelloError::Monitor { deaf: peer.role }),
            (false, true) => Err(HelloError::Monitor { deaf: self.role }),
            _ => Ok(()),
        }
    }

    /// Its bytes. A blob over [`MAX_SECURITY_BLOB`] is cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let blob = &self.blob[..self.blob.len().min(MAX_SECURITY_BLOB)];
        let mut b = Vec::with_capacity(HELLO + blob.len());
        b.extend_from_slice(&MAGIC);
        b.extend_from_slice(&VERSION.to_be_bytes());
        b.push(self.role.code());
        b.push(self.security);
        b.extend_from_slice(&self.boot);
        b.extend_from_slice(&self.features.to_be_bytes());
        b.extend_from_slice(&u16::try_from(blob.len()).unwrap_or_default().to_be_bytes());
        b.extend_from_slice(blob);
        b
    }

    /// Bytes that are at least missing from `bytes` for a hello, 0 once it is complete.
    #[must_use]
    pub fn missing(bytes: &[u8]) -> usize {
        let whole = match bytes.get(HELLO - 2..HELLO) {
            Some(length) => HELLO + usize::from(u16::from_be_bytes([length[0], length[1]])),
            None => HELLO,
        };
        whole.saturating_sub(bytes.len())
    }

    /// Reads a hello of an agent in role `expected` from the start of `bytes`: it and its length, or `None` if more
    /// bytes are needed. What cannot become one is refused at the first byte that says so.
    ///
    /// # Errors
    /// What came and what was expected.
    pub fn decode(bytes: &[u8], expected: Role) -> Result<Option<(Self, usize)>, HelloError> {
        let magic = &bytes[..bytes.len().min(MAGIC.len())];
        if !MAGIC.starts_with(magic) {
            return Err(HelloError::Magic { got: magic.to_vec() });
        }
        // The version comes first: what follows it may look different in another one.
        let mut fields = Fields(&bytes[magic.len()..]);
        let Some(version) = fields.u16() else { return Ok(None) };
        if version != VERSION {
            return Err(HelloError::Version { got: version });
        }
        let Some(role) = fields.u8() else { return Ok(None) };
        if role != expected.code() {
            return Err(HelloError::Role { got: role, expected });
        }
        let Some(security) = fields.u8() else { return Ok(None) };
        if security != SECURITY_NONE {
            return Err(HelloError::Security { got: security });
        }
        let (Some(boot), Some(features), Some(length)) = (fields.array(), fields.u64(), fields.u16()) else {
            return Ok(None);
        };
        let length = usize::from(length);
        if length > MAX_SECURITY_BLOB {
            return Err(HelloError::Blob { got: length });
        }
        let Some(blob) = fields.take(length) else { return Ok(None) };
        let hello = Self { role: expected, boot, features, security, blob: blob.to_vec() };
        Ok(Some((hello, HELLO + length)))
    }
}
