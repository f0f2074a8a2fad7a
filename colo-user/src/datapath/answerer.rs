//! The program that answers for this host while its agent says nothing ([`colo_ebpf::liveness`]), on the link between the
//! hosts. It leaves the interface with the agent: an agent that has ended is told by the kernel's own refusal of its port.

use aya::maps::{HashMap, MapData};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, Pod, include_bytes_aligned};
use colo_ebpf::liveness::{MAP_STAMPS, PROGRAM, Stamp};
use std::os::fd::AsFd as _;

use super::bpf::XdpLink;
use super::error::DatapathError;
use super::interface::occupied;
use super::netlink::{Netlink, XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE};
use super::programs::{NATIVE, SKB, chain, map_error};
use crate::mono::Mono;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/colo-answer"));

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Value(Stamp);

// SAFETY: `Stamp` is `repr(C)`, of two 64-bit integers.
unsafe impl Pod for Value {}

/// See the module.
#[derive(Debug)]
pub struct Answerer {
    // First of all the program leaves the interface.
    link: Option<XdpLink>,
    ebpf: Ebpf,
    stamps: HashMap<MapData, u16, Value>,
    boot: u64,
    ports: Vec<u16>,
}

impl Answerer {
    /// Loads the program, for an agent with start number `boot` that listens on these UDP ports.
    ///
    /// # Errors
    /// What the kernel does not like.
    pub fn load(boot: u64, ports: Vec<u16>) -> Result<Self, DatapathError> {
        let mut ebpf = EbpfLoader::new().load(OBJECT).map_err(|error| DatapathError::Load(chain(&error)))?;
        let missing = || DatapathError::Load(format!("the object has no {MAP_STAMPS}"));
        let map = ebpf.take_map(MAP_STAMPS).ok_or_else(missing)?;
        let stamps = HashMap::try_from(map).map_err(|error| map_error(MAP_STAMPS, &error))?;
        let mut answerer = Self { link: None, ebpf, stamps, boot, ports };
        answerer.program()?.load().map_err(|error| DatapathError::Load(chain(&error)))?;
        answerer.stamp(Mono::now())?;
        Ok(answerer)
    }

    /// Puts it on `interface`, in the driver where that takes it; says how.
    ///
    /// # Errors
    /// Another program is there, or the interface is not.
    pub fn attach(&mut self, interface: &str) -> Result<&'static str, DatapathError> {
        let refused = |source| DatapathError::Interface { interface: interface.to_owned(), source };
        let there = Netlink::open().and_then(|mut netlink| netlink.link(interface)).map_err(refused)?;
        if let Some(program) = there.program {
            return Err(occupied(interface, program));
        }
        let program = self.program()?.fd().map_err(|error| DatapathError::Load(chain(&error)))?.as_fd();
        let (link, how) = match XdpLink::create(program, there.index, XDP_FLAGS_DRV_MODE) {
            Ok(link) => (link, NATIVE),
            Err(_) => (XdpLink::create(program, there.index, XDP_FLAGS_SKB_MODE).map_err(refused)?, SKB),
        };
        self.link = Some(link);
        Ok(how)
    }

    /// The agent is alive.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn stamp(&mut self, now: Mono) -> Result<(), DatapathError> {
        let stamp = Value(Stamp { stamp_ns: now.as_nanos(), boot: self.boot });
        for port in &self.ports {
            let set = self.stamps.insert(port.to_be(), stamp, 0);
            set.map_err(|error| map_error(MAP_STAMPS, &error))?;
        }
        Ok(())
    }

    /// The program, to be run by itself.
    ///
    /// # Errors
    /// If the object is not ours.
    pub fn program(&mut self) -> Result<&mut Xdp, DatapathError> {
        let missing = || DatapathError::Load(format!("the object has no {PROGRAM}"));
        let program = self.ebpf.program_mut(PROGRAM).ok_or_else(missing)?;
        program.try_into().map_err(|error| DatapathError::Load(chain(&error)))
    }
}
