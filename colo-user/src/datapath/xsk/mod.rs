//! AF_XDP (kernel `Documentation/networking/af_xdp.rst`) over plain system calls: the memory that frames live in, the
//! rings that hand them over, the sockets that join the two to an interface.
//!
//! Copy mode with `need_wakeup`: neither veth nor tap has a zero-copy driver, and where a physical one has it, frames
//! that are held for long must not starve its receive ring. Every ring has room for every frame of the memory, so no
//! ring can ever be full: what is scarce is frames, and those are counted in one place.

pub(super) mod ring;
pub(super) mod socket;
pub(super) mod umem;
