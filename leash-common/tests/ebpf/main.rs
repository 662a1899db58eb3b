//! What the eBPF programs compute, on this machine: their own sources, over a kernel that this test makes up.
//!
//! [`kernel`] reads memory of this process and [`maps`] keeps values for a thread, so that each test has a kernel of its own. The rest is
//! `leash-ebpf` as it is, but for the hooks themselves. What only the kernel's verifier and its real structures can tell is tested on kernels.
//!
//! It is a test of this crate because it needs no other one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job
#![allow(unreachable_pub, dead_code, clippy::manual_range_contains)] // the programs' own interfaces, and what the verifier follows

/// The programs' sources call helpers by this name.
extern crate self as aya_ebpf;

mod fixture;
mod kernel;
mod maps;

pub(crate) mod helpers {
    pub(crate) use crate::kernel::helpers as generated;
}

#[path = "../../../leash-ebpf/src/decide.rs"]
mod decide;
#[path = "../../../leash-ebpf/src/emit.rs"]
mod emit;
#[path = "../../../leash-ebpf/src/gains.rs"]
mod gains;
#[path = "../../../leash-ebpf/src/mounts.rs"]
mod mounts;
#[path = "../../../leash-ebpf/src/route.rs"]
mod route;
#[path = "../../../leash-ebpf/src/scan.rs"]
mod scan;
#[path = "../../../leash-ebpf/src/scratch.rs"]
mod scratch;
#[path = "../../../leash-ebpf/src/session.rs"]
mod session;
#[path = "../../../leash-ebpf/src/walk.rs"]
mod walk;

mod finding;
mod naming;
mod recording;
mod routing;
mod scanning;
