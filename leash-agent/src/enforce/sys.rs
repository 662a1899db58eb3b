//! The `bpf(2)` calls that are made here directly: maps by descriptor, pins, test runs.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::{bpf_attr, bpf_cmd};
use nix::libc;

use super::error::{EnforceError, Result};

/// `BPF_MAP_TYPE_…`
pub(super) const MAP_TYPE_ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_…`
pub(super) const MAP_TYPE_RINGBUF: u32 = 27;
/// `BPF_F_INNER_MAP`
pub(super) const F_INNER_MAP: u32 = 1 << 12;

/// `BPF_CGROUP_INET4_CONNECT`, `BPF_CGROUP_INET6_CONNECT`
pub(super) const CGROUP_CONNECT4: u32 = 10;
/// See [`CGROUP_CONNECT4`].
pub(super) const CGROUP_CONNECT6: u32 = 11;
/// `BPF_F_QUERY_EFFECTIVE`
const QUERY_EFFECTIVE: u32 = 1;

fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: the attributes outlive the call, and callers fill in pointers to memory that does too.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, attributes, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers.
    unsafe { std::mem::zeroed() }
}

fn descriptor(result: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel just returned this descriptor to us alone.
    unsafe { OwnedFd::from_raw_fd(result as i32) }
}

fn refused(action: impl Into<String>) -> impl FnOnce(io::Error) -> EnforceError {
    move |source| EnforceError::Bpf { action: action.into(), source }
}

/// Makes a map.
pub(super) fn create_map(name: &str, map_type: u32, key: u32, value: u32, entries: u32, flags: u32) -> Result<OwnedFd> {
    let mut attributes = zeroed();
    // SAFETY: this is the arm of the union that the command reads.
    let create = unsafe { &mut attributes.__bindgen_anon_1 };
    create.map_type = map_type;
    create.key_size = key;
    create.value_size = value;
    create.max_entries = entries;
    create.map_flags = flags;
    for (to, from) in create.map_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from as _;
    }
    bpf(bpf_cmd::BPF_MAP_CREATE, &mut attributes).map(descriptor).map_err(refused(format!("make map `{name}`")))
}

/// Opens a pinned map.
pub(super) fn open_pinned(path: &Path) -> Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| EnforceError::Pin { name: path.display().to_string(), reason: "the name holds a zero byte".into() })?;
    let mut attributes = zeroed();
    attributes.__bindgen_anon_4.pathname = name.as_ptr() as u64;
    bpf(bpf_cmd::BPF_OBJ_GET, &mut attributes).map(descriptor).map_err(refused(format!("open `{}`", path.display())))
}

/// Marker of values that cross the system call as they are.
///
/// # Safety
/// Any bit pattern must be valid, and the layout must have no holes.
pub(super) unsafe trait Plain: Copy {}
// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for u64 {}
// SAFETY: integers in C layout, without holes.
unsafe impl Plain for leash_common::session::Config {}
// SAFETY: as above.
unsafe impl Plain for leash_common::session::SessionRecord {}
// SAFETY: as above.
unsafe impl Plain for leash_common::session::Counters {}
// SAFETY: as above.
unsafe impl Plain for leash_common::session::MountKey {}
// SAFETY: as above.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

fn element<K, V>(map: BorrowedFd<'_>, key: *const K, value: *mut V) -> bpf_attr {
    let mut attributes = zeroed();
    // SAFETY: this is the arm of the union that element commands read.
    let element = unsafe { &mut attributes.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd() as u32;
    element.key = key as u64;
    element.__bindgen_anon_1.value = value as u64;
    attributes
}

/// The value of `key`, or `None`.
pub(super) fn lookup<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K) -> Result<Option<V>> {
    let mut value = std::mem::MaybeUninit::<V>::uninit();
    match bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut element(map, key, value.as_mut_ptr())) {
        // SAFETY: the kernel wrote the value, and any bit pattern is valid.
        Ok(_) => Ok(Some(unsafe { value.assume_init() })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(refused("read a map")(error)),
    }
}

/// Sets the value of `key`.
pub(super) fn update<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, value: &V) -> Result<()> {
    update_raw(map, key, std::ptr::from_ref(value).cast())
}

/// Sets one element from memory of the map's value size.
pub(super) fn update_bytes<K: Plain>(map: BorrowedFd<'_>, key: &K, value: &[u64]) -> Result<()> {
    update_raw(map, key, value.as_ptr())
}

fn update_raw<K: Plain>(map: BorrowedFd<'_>, key: &K, value: *const u64) -> Result<()> {
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut element(map, key, value.cast_mut())).map(drop).map_err(refused("write a map"))
}

/// Removes `key` if it is there.
pub(super) fn delete<K: Plain>(map: BorrowedFd<'_>, key: &K) -> Result<()> {
    match bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut element::<K, u8>(map, key, std::ptr::null_mut())) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(refused("remove from a map")(error)),
    }
}

/// The key after `key`, or the first.
pub(super) fn next_key<K: Plain>(map: BorrowedFd<'_>, key: Option<&K>) -> Result<Option<K>> {
    let mut next = std::mem::MaybeUninit::<K>::uninit();
    let key = key.map_or(std::ptr::null(), std::ptr::from_ref);
    match bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut element(map, key, next.as_mut_ptr())) {
        // SAFETY: the kernel wrote the key, and any bit pattern is valid.
        Ok(_) => Ok(Some(unsafe { next.assume_init() })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(refused("list a map")(error)),
    }
}

/// Runs a program `repeat` times over `data`; its return value, and the mean duration in nanoseconds.
pub(super) fn test_run(program: BorrowedFd<'_>, data: &[u8], repeat: u32) -> Result<(u32, u32)> {
    let mut attributes = zeroed();
    // SAFETY: this is the arm of the union that the command reads.
    let test = unsafe { &mut attributes.test };
    test.prog_fd = program.as_raw_fd() as u32;
    test.data_in = data.as_ptr() as u64;
    test.data_size_in = data.len() as u32;
    test.repeat = repeat;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attributes).map_err(refused("run a program for measuring"))?;
    // SAFETY: the kernel wrote the results into the same arm.
    let test = unsafe { attributes.test };
    Ok((test.retval, test.duration))
}

/// How many programs run on a hook of a cgroup, its ancestors' included.
pub(super) fn count_programs(cgroup: BorrowedFd<'_>, hook: u32) -> Result<u32> {
    let mut attributes = zeroed();
    // SAFETY: this is the arm of the union that the command reads.
    let query = unsafe { &mut attributes.query };
    query.__bindgen_anon_1.target_fd = cgroup.as_raw_fd() as u32;
    query.attach_type = hook;
    query.query_flags = QUERY_EFFECTIVE;
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attributes).map_err(refused("list the programs of a cgroup"))?;
    // SAFETY: the kernel wrote the count into the same arm.
    Ok(unsafe { attributes.query.__bindgen_anon_2.prog_cnt })
}
