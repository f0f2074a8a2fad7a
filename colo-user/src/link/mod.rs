//! Byte streams to other programs: where they are reached, and how what is said on them is framed.
//!
//! [`endpoint`] is the address, [`async_stream`] the same on the control plane. [`chardev`] is how QEMU frames packets on its character devices. The link between two
//! agents is [`frame`] (hello and messages), [`buffer`] (messages to bytes and back), [`stream`] (the bytes over a
//! socket that never blocks) and [`connect`] (how the socket comes to be, again and again).

pub mod async_stream;
pub mod buffer;
pub mod chardev;
pub mod connect;
pub mod endpoint;
pub mod frame;
pub mod stream;
