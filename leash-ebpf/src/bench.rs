//! The decision without a hook, for machines that refuse LSM programs: measured and compared with userspace by test runs.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

use crate::decide::decide_for_class;
use crate::scratch;

/// Decides the path of area 0, or the endpoint, in scratch slot 0 for the class in it, by the image of session 0. The kind is in
/// `exe_is_path`. Returns a leaf of the tables, or the cause of a failure.
#[classifier]
pub fn leash_bench(_context: TcContext) -> i32 {
    let Some(memory) = scratch::memory(0) else { return 0 };
    // SAFETY: nothing else runs while userspace measures; the mask bounds the index.
    unsafe {
        let kind = (*memory).exe_is_path & 15;
        match decide_for_class(0, 1 << kind) {
            0 => *(&raw const (*memory).leaf).cast::<u32>().add(kind as usize) as i32,
            cause => cause as i32,
        }
    }
}
