//! What the kernel and userspace must agree on.
//!
//! This crate holds the request [`kind`]s, the layout of the decision [`table`]s and the pure functions that walk them, and the
//! records that cross the ring buffer. The eBPF programs, the daemon and the tests run the same lines. It is `no_std`,
//! allocates nothing, and knows neither Cedar nor BPF maps.
#![cfg_attr(not(test), no_std)]

pub mod event;
pub mod kind;
pub mod layout;
pub mod session;
pub mod socket;
pub mod table;
