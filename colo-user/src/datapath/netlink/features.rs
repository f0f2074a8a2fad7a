//! The `netdev` family of generic netlink (Linux 6.3): what XDP can do on an interface.

use std::io;
use std::num::NonZeroU32;

use super::{Netlink, attribute, find, u16_at};

const NETLINK_GENERIC: NonZeroU32 = NonZeroU32::new(16).unwrap();
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;
/// Command, version and two reserved bytes.
const GENERIC_HEADER: usize = 4;

/// False if the kernel says that native XDP cannot redirect frames to interface `index`: it would drop them after the
/// program's verdict, uncounted. A kernel that does not say gets the benefit of the doubt.
pub(in super::super) fn takes_redirects(index: u32) -> bool {
    features(index).ok().flatten().is_none_or(|features| features & NETDEV_XDP_ACT_NDO_XMIT != 0)
}

fn features(index: u32) -> io::Result<Option<u64>> {
    let mut netlink = Netlink::with_protocol(Some(NETLINK_GENERIC))?;
    let name = |value: &mut Vec<u8>| value.extend_from_slice(b"netdev\0");
    let about = netlink.ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, name)?;
    let Some(family) = find(about, CTRL_ATTR_FAMILY_ID).and_then(|id| u16_at(id, 0)) else { return Ok(None) };
    let which = |value: &mut Vec<u8>| value.extend_from_slice(&index.to_ne_bytes());
    let about = netlink.ask(family, NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, which)?;
    let features = find(about, NETDEV_A_DEV_XDP_FEATURES).and_then(|value| value.try_into().ok());
    Ok(features.map(u64::from_ne_bytes))
}

impl Netlink {
    /// One question of a generic family with one attribute; returns the attributes of the answer.
    fn ask(
        &mut self,
        family: u16,
        command: u8,
        kind: u16,
        value: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<&[u8]> {
        let mut message = vec![command, 1, 0, 0];
        attribute(&mut message, kind, value);
        self.request(family, 0, &message)?;
        let body = self.receive().map_err(|(error, _)| error)?;
        Ok(body.get(GENERIC_HEADER..).unwrap_or_default())
    }
}
