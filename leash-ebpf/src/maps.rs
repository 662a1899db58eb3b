//! The maps. Userspace pins all of them, so that their contents outlive the daemon.

use core::ffi::c_void;

use aya_ebpf::bindings::{
    BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE,
    bpf_map_type::{BPF_MAP_TYPE_RINGBUF, BPF_MAP_TYPE_TASK_STORAGE},
};
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap};
use aya_ebpf::helpers::generated::bpf_task_storage_get;
use aya_ebpf::macros::btf_map;
use leash_common::session::{
    Config, Counters, FOLD_WORDS, MAX_MOUNTS, MAX_SESSIONS, MountKey, SCRATCH_SLOTS, Scratch, SessionRecord, TaskRecord,
};
use leash_common::table::Page;

/// Pages of one image. Images differ in their number of pages, which the flag permits.
pub type ImageMap = Array<Page, 1, { BPF_F_INNER_MAP as usize }>;

/// Definition of a ring buffer inside an array of maps; sizes may differ.
#[repr(C)]
pub struct RingMap {
    r#type: *const [i32; BPF_MAP_TYPE_RINGBUF as usize],
    max_entries: *const [i32; 4096],
}

/// Definition of a map that keeps one value with each task.
#[repr(C)]
pub struct TaskStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the fields are placeholders for the loader and are never dereferenced.
unsafe impl<T> Sync for TaskStorage<T> {}

impl<T> TaskStorage<T> {
    const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }

    /// The value of `task`, a trusted `task_struct` pointer. Null if there is none (and none could be made, if `create`).
    #[inline(always)]
    pub fn get(&self, task: *mut c_void, create: bool) -> *mut T {
        let flags = if create { BPF_LOCAL_STORAGE_GET_F_CREATE as u64 } else { 0 };
        let map = core::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the map is a task storage and the verifier admits only tasks as `task`.
        unsafe { bpf_task_storage_get(map, task.cast(), core::ptr::null_mut(), flags) }.cast()
    }
}

#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();
#[btf_map]
pub static SESSIONS: Array<SessionRecord, MAX_SESSIONS> = Array::new();
#[btf_map]
pub static COUNTERS: Array<Counters, MAX_SESSIONS> = Array::new();
/// Cgroup id to session slot.
#[btf_map]
pub static CGROUPS: HashMap<u64, u32, MAX_SESSIONS> = HashMap::new();
/// Session slot to image. Replacing an entry is the atomic switch to another policy.
#[btf_map]
pub static IMAGES: ArrayOfMaps<ImageMap, MAX_SESSIONS> = ArrayOfMaps::new();
/// Ring of a session's denials at twice its slot, of its allowed actions one after.
#[btf_map]
pub static RINGS: ArrayOfMaps<RingMap, { MAX_SESSIONS * 2 }> = ArrayOfMaps::new();
#[btf_map]
pub static FOLD: Array<[u64; FOLD_WORDS], MAX_SESSIONS, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
pub static TASKS: TaskStorage<TaskRecord> = TaskStorage::new();
#[btf_map]
pub static SCRATCH: Array<Scratch, SCRATCH_SLOTS> = Array::new();
/// Root of a mount to the mount.
#[btf_map]
pub static MOUNTS: HashMap<MountKey, u64, MAX_MOUNTS, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();
