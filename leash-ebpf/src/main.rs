//! The LSM programs of Leash: a hook builds a request, obeys the verdict of the session's tables, and emits a record.
//!
//! No policy logic lives here. `session` finds whose task is acting, `walk` names the object, `decide` runs the tables, `emit`
//! records; one file per hook family asks the questions. Every path that ends without an answer of the tables denies in enforce
//! mode, and is recorded with its cause in both modes.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(internal_features)]

mod attr;
mod bench;
mod cgroup;
mod decide;
mod emit;
mod exec;
mod file;
mod gains;
mod kernel;
mod maps;
mod mounts;
mod path;
mod route;
mod scan;
mod scratch;
mod session;
mod socket;
mod task;
mod unix;
mod walk;

/// The helpers that the programs call are reserved for GPL-compatible programs. The kernel knows no name for our choice of licences, so
/// this is the one of them that it knows.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
