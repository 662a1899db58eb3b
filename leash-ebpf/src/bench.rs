//! The decision without a hook, for machines that refuse LSM programs: measured and compared with userspace by test runs.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

use crate::decide::{leash_begin, leash_endpoint, leash_leaf, leash_path};
use crate::scratch;

/// Decides the path of area 0, or the endpoint, in scratch slot 0 for the class in it, by the image of session 0. The kind is in
/// `override_kinds`. Returns a leaf of the tables, or the cause of a failure.
#[classifier]
pub fn leash_bench(_context: TcContext) -> i32 {
    let Some(memory) = scratch::memory(0) else { return 0 };
    // SAFETY: nothing else runs while userspace measures; the mask bounds the index.
    unsafe {
        let kind = (*memory).override_kinds & 15;
        let mut cause = leash_begin(0);
        if cause == 0 {
            cause = if (*memory).address_len != 0 { leash_endpoint(0) } else { leash_path(0, 0) };
        }
        if cause == 0 {
            cause = leash_leaf(0, kind);
        }
        if cause == 0 { *(*memory).leaf.as_ptr().add(kind as usize) as i32 } else { cause as i32 }
    }
}
