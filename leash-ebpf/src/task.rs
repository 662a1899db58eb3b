//! Which program a task runs: set by the kernel at exec, inherited at fork, never told by the process.

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use leash_common::session::TaskRecord;
use leash_common::table::MAX_PATH_BYTES;

use crate::kernel::copy;
use crate::maps::TASKS;
use crate::scratch;
use crate::session::governed;

const ENOMEM: i32 = 12;

/// Makes the path of area 0 the current task's program. Without a path the program is unknown, and what it asks is denied.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_become(index: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return 0 };
    // SAFETY: the current task is a trusted pointer, the record is its own, the slot is claimed.
    unsafe {
        let task: *mut TaskRecord = TASKS.get(bpf_get_current_task_btf().cast(), true);
        if task.is_null() {
            return 0;
        }
        (*task).tag = 0;
        (*task).start = 0;
        let start = (*scratch).start[0];
        if (*scratch).cause[0] != 0 || start == 0 || start >= MAX_PATH_BYTES as u32 {
            return 0;
        }
        // All of the buffer: the verifier knows the size, and what precedes the path is never read.
        let source = (&raw const (*scratch).area).cast::<leash_common::session::Area>();
        if copy((&raw mut (*task).path).cast(), MAX_PATH_BYTES, (&raw const (*source).path) as u64) {
            (*task).start = start;
        }
        0
    }
}

/// Leaves the current task without a known program.
#[inline(always)]
pub fn forget() {
    // SAFETY: as in `leash_become`.
    unsafe {
        let task: *mut TaskRecord = TASKS.get(bpf_get_current_task_btf().cast(), false);
        if !task.is_null() {
            (*task).start = 0;
        }
    }
}

/// `LSM_HOOK(int, 0, task_alloc, struct task_struct *task, unsigned long clone_flags)`: a fork or a new thread.
#[lsm(hook = "task_alloc")]
pub fn task_alloc(context: LsmContext) -> i32 {
    if governed().is_none() {
        return 0;
    }
    // SAFETY: both tasks are trusted pointers; the records are theirs.
    unsafe {
        let parent: *mut TaskRecord = TASKS.get(bpf_get_current_task_btf().cast(), false);
        if parent.is_null() {
            return 0;
        }
        let start = (*parent).start;
        if start == 0 || start >= MAX_PATH_BYTES as u32 {
            return 0;
        }
        let new: *mut core::ffi::c_void = context.arg(0);
        let child: *mut TaskRecord = TASKS.get(new, true);
        if child.is_null() {
            return -ENOMEM;
        }
        if !copy((&raw mut (*child).path).cast(), MAX_PATH_BYTES, (&raw const (*parent).path) as u64) {
            return -ENOMEM;
        }
        (*child).class = (*parent).class;
        (*child).hash = (*parent).hash;
        (*child).tag = (*parent).tag;
        (*child).start = start;
        0
    }
}
