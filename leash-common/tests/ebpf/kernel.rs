//! In the place of `leash-ebpf/src/kernel.rs`, and of the kernel's helpers.

use std::cell::{Cell, RefCell};

use leash_common::layout::{Layout, Offsets};

/// Lower addresses can't be read.
const LOWEST: u64 = 1 << 16;

thread_local! {
    static RENAMES: &'static Cell<u32> = Box::leak(Box::new(Cell::new(0)));
    static TASK: Cell<u64> = const { Cell::new(0) };
    static CGROUPS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Sets the sequence of `rename_lock`; while it is odd, something is being renamed.
pub fn set_renames(sequence: u32) {
    RENAMES.with(|renames| renames.set(sequence));
}

/// Makes the structure at `address` the current task.
pub fn set_task(address: u64) {
    TASK.set(address);
}

/// Sets the cgroups that the current task is in, from the root's on.
pub fn set_cgroups(ids: &[u64]) {
    CGROUPS.set(ids.to_vec());
}

/// Members lie a word apart from each other, but for those that are read together.
pub fn offsets() -> Layout {
    let mut words = [0_u32; size_of::<Offsets>() / 4];
    for (index, word) in words.iter_mut().enumerate() {
        *word = 8 * index as u32;
    }
    // SAFETY: `Offsets` is nothing but words.
    let mut at: Offsets = unsafe { std::mem::transmute(words) };
    at.dentry_parent = 1024;
    at.dentry_name_len = at.dentry_parent + 12;
    at.dentry_name = at.dentry_parent + 16;
    at.dentry_inode = at.dentry_parent + 24;
    at.mount_parent = 1536;
    at.mount_mountpoint = at.mount_parent + 8;
    Layout { rename_lock: RENAMES.with(|renames| renames.as_ptr() as u64), fold_key: 5, at, ..Layout::default() }
}

macro_rules! layout {
    ($($field:ident).+) => {
        $crate::kernel::offsets().$($field).+
    };
}
pub(crate) use layout;

macro_rules! member {
    ($base:expr, $member:ident) => {
        ($base).wrapping_add($crate::kernel::layout!(at.$member) as u64)
    };
}
pub(crate) use member;

/// What can't be read is zero.
pub fn read<T: Copy>(address: u64) -> T {
    if address < LOWEST {
        // SAFETY: the programs read words, arrays of words, and structures of them.
        return unsafe { std::mem::zeroed() };
    }
    // SAFETY: the tests make up structures that are large enough for every member.
    unsafe { (address as *const T).read_unaligned() }
}

pub fn bound<const MASK: u32>(value: u32) -> usize {
    (value & MASK) as usize
}

pub unsafe fn copy(to: *mut u8, length: usize, from: u64) -> bool {
    if from < LOWEST {
        return false;
    }
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy(from as *const u8, to, length) };
    true
}

pub unsafe fn move_word(from: *const u8, to: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { to.cast::<u64>().write_unaligned(from.cast::<u64>().read_unaligned()) };
}

pub unsafe fn clear<T: Copy>(word: *mut T) {
    // SAFETY: the caller's promise.
    unsafe { word.write(std::mem::zeroed()) };
}

pub fn repeat<S>(count: u32, step: unsafe extern "C" fn(u64, *mut S) -> i64, state: &mut S) {
    // SAFETY: the step is made for this state.
    let _ = (0..u64::from(count)).find(|&index| unsafe { step(index, state) } != 0);
}

pub unsafe fn add(word: *mut u64, value: u64) {
    // SAFETY: the caller's promise; each test is one thread.
    unsafe { *word = (*word).wrapping_add(value) };
}

pub unsafe fn compare_exchange<T: Copy + PartialEq>(word: *mut T, old: T, new: T) -> T {
    // SAFETY: the caller's promise; each test is one thread.
    unsafe {
        let seen = *word;
        if seen == old {
            *word = new;
        }
        seen
    }
}

pub mod helpers {
    use std::ffi::c_void;

    use leash_common::table::Page;

    use super::{CGROUPS, TASK};
    use crate::maps::Ring;

    pub unsafe fn bpf_get_current_task_btf() -> *mut c_void {
        TASK.get() as *mut c_void
    }

    pub unsafe fn bpf_get_current_ancestor_cgroup_id(level: i32) -> u64 {
        CGROUPS.with_borrow(|ids| ids.get(level as usize).copied().unwrap_or_default())
    }

    pub unsafe fn bpf_get_smp_processor_id() -> u32 {
        1
    }

    pub unsafe fn bpf_get_current_pid_tgid() -> u64 {
        77 << 32 | 78
    }

    pub unsafe fn bpf_get_current_uid_gid() -> u64 {
        1001 << 32 | 1000
    }

    pub unsafe fn bpf_ktime_get_boot_ns() -> u64 {
        12_345
    }

    pub unsafe fn bpf_map_lookup_elem(map: *mut c_void, key: *const c_void) -> *mut c_void {
        // SAFETY: the one map that is looked up so is an image.
        let (pages, number) = unsafe { (&*map.cast::<Vec<Page>>(), *key.cast::<u32>()) };
        pages.get(number as usize).map_or(std::ptr::null_mut(), |page| std::ptr::from_ref(page).cast_mut().cast())
    }

    pub unsafe fn bpf_ringbuf_query(_ring: *mut c_void, what: u64) -> u64 {
        // Nothing waits in a ring of some size.
        what * 4096
    }

    pub unsafe fn bpf_ringbuf_output(ring: *mut c_void, data: *mut c_void, size: u64, _flags: u64) -> i64 {
        // SAFETY: rings come from the map of rings; the record is whole.
        let (ring, record) = unsafe { (&*ring.cast::<Ring>(), std::slice::from_raw_parts(data.cast::<u8>(), size as usize)) };
        ring.put(record)
    }
}
