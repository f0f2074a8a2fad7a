//! Where beats go, as QEMU writes a datagram socket: `udp:PEER:PORT[@LOCAL:PORT]`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// One heartbeat link. Addresses are numbers: liveness must not hang on a name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeatLink {
    /// Where the peer listens.
    pub peer: SocketAddr,
    /// Where this side does; any address with the peer's port unless it is given.
    pub local: SocketAddr,
}

impl FromStr for BeatLink {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "heartbeat `{text}`: {what}; write udp:PEER:PORT[@LOCAL:PORT] with numeric addresses, such as \
                 udp:10.9.1.3:9701 or udp:[fd00::3]:9701@[fd00::2]:9701"
            )
        };
        let ends = text.strip_prefix("udp:").ok_or_else(|| wrong("not a udp endpoint"))?;
        let (peer, local) = match ends.split_once('@') {
            Some((peer, local)) => (peer, Some(local)),
            None => (ends, None),
        };
        let address = |text: &str, what| text.parse::<SocketAddr>().map_err(|_| wrong(what));
        let peer = address(peer, "the peer is no address with a port")?;
        if peer.port() == 0 || peer.ip().is_unspecified() {
            return Err(wrong("the peer needs an address and a port of its own"));
        }
        let any = match peer {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let local = match local {
            Some(local) => address(local, "the local end is no address with a port")?,
            None => SocketAddr::new(any, peer.port()),
        };
        if local.is_ipv4() != peer.is_ipv4() || local.port() == 0 {
            return Err(wrong("both ends need a port and one kind of address"));
        }
        Ok(Self { peer, local })
    }
}

impl fmt::Display for BeatLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.local.ip().is_unspecified() && self.local.port() == self.peer.port() {
            write!(f, "udp:{}", self.peer)
        } else {
            write!(f, "udp:{}@{}", self.peer, self.local)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_written_as_qemu_writes_datagram_sockets() {
        for text in [
            "udp:10.9.1.3:9701",
            "udp:10.9.1.3:9701@10.9.1.2:9702",
            "udp:[fd00::3]:9701@[fd00::2]:9701",
            "udp:[fe80::3%2]:9701",
        ] {
            assert_eq!(text.parse::<BeatLink>().unwrap().to_string(), text);
        }
        let link: BeatLink = "udp:10.9.1.3:9701".parse().unwrap();
        assert_eq!(link.local, "0.0.0.0:9701".parse().unwrap());
    }

    #[test]
    fn what_is_no_link_is_refused_with_the_form() {
        for text in [
            "tcp:10.9.1.3:9701",
            "udp:host:9701",
            "udp:10.9.1.3",
            "udp:10.9.1.3:0",
            "udp:0.0.0.0:1",
            "udp:10.9.1.3:9701@[::]:9701",
            "udp:10.9.1.3:9701@10.9.1.2:0",
        ] {
            let error = text.parse::<BeatLink>().unwrap_err();
            assert!(error.contains("udp:PEER:PORT[@LOCAL:PORT]") && error.contains(text), "{error}");
        }
    }
}
