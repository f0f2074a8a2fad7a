//! The ABI shared by the XDP programs and the agent.
#![no_std]
