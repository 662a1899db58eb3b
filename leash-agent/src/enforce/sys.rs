//! The `bpf(2)` calls that are made here directly: maps by descriptor, pins, programs for cgroups, test runs.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_func_info, bpf_insn, bpf_prog_type};
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
/// The instructions `r0 = 0` and `exit`.
const RETURN_0: [u8; 2] = [0xb7, 0x95];
/// What the verifier refuses, without each step that led there (`BPF_LOG_STATS`).
const LOG_SHORT: u32 = 4;
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

/// What a map is.
#[derive(Clone, Copy)]
pub(super) struct MapSpec<'a> {
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: &'a str,
    /// `BPF_MAP_TYPE_…`
    pub map_type: u32,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// How many there may be.
    pub entries: u32,
    /// `BPF_F_…`
    pub flags: u32,
    /// In a map of maps, what those are like.
    pub inner: Option<BorrowedFd<'a>>,
}

/// The kernel keeps 15 bytes of a name.
fn set_name(field: &mut [libc::c_char; 16], name: &str) {
    for (to, from) in field.iter_mut().zip(name.bytes().take(15)) {
        *to = from as _;
    }
}

/// Makes a map.
pub(super) fn create_map(map: MapSpec<'_>) -> Result<OwnedFd> {
    let mut attributes = zeroed();
    // SAFETY: this is the arm of the union that the command reads.
    let create = unsafe { &mut attributes.__bindgen_anon_1 };
    create.map_type = map.map_type;
    create.key_size = map.key;
    create.value_size = map.value;
    create.max_entries = map.entries;
    create.map_flags = map.flags;
    create.inner_map_fd = map.inner.map_or(0, |inner| inner.as_raw_fd() as u32);
    set_name(&mut create.map_name, map.name);
    bpf(bpf_cmd::BPF_MAP_CREATE, &mut attributes).map(descriptor).map_err(refused(format!("make map `{}`", map.name)))
}

/// Fixes the content of a map for good, so that the verifier takes it for constants.
pub(super) fn freeze(map: BorrowedFd<'_>) -> Result<()> {
    let mut attributes = zeroed();
    attributes.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_MAP_FREEZE, &mut attributes).map(drop).map_err(refused("freeze a map"))
}

/// Hands over the type information of an object.
pub(super) fn load_btf(btf: &[u8]) -> Result<OwnedFd> {
    let mut attributes = zeroed();
    attributes.__bindgen_anon_7.btf = btf.as_ptr() as u64;
    attributes.__bindgen_anon_7.btf_size = btf.len() as u32;
    bpf(bpf_cmd::BPF_BTF_LOAD, &mut attributes).map(descriptor).map_err(refused("take the programs' type information"))
}

/// A program as the kernel is given it.
pub(super) struct ProgramSpec<'a> {
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: &'a str,
    /// What calls it.
    pub kind: bpf_prog_type,
    /// Where it will be attached.
    pub hook: bpf_attach_type,
    /// Its instructions, which refer to maps by descriptor.
    pub instructions: &'a [bpf_insn],
    /// The licence that it tells the kernel.
    pub license: &'a CStr,
    /// Its object's type information, and which function is which in there.
    pub types: Option<(BorrowedFd<'a>, &'a [bpf_func_info])>,
}

/// Has a program verified. The verifier's words are put into `log`, if that isn't empty.
pub(super) fn load_program(program: &ProgramSpec<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attributes = zeroed();
    // SAFETY: this is the arm of the union that the command reads.
    let load = unsafe { &mut attributes.__bindgen_anon_3 };
    load.prog_type = program.kind as u32;
    load.expected_attach_type = program.hook as u32;
    load.insns = program.instructions.as_ptr() as u64;
    load.insn_cnt = program.instructions.len() as u32;
    load.license = program.license.as_ptr() as u64;
    if let Some((btf, functions)) = program.types {
        load.prog_btf_fd = btf.as_raw_fd() as u32;
        load.func_info = functions.as_ptr() as u64;
        load.func_info_cnt = functions.len() as u32;
        load.func_info_rec_size = size_of::<bpf_func_info>() as u32;
    }
    if !log.is_empty() {
        load.log_level = LOG_SHORT;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = log.len() as u32;
    }
    set_name(&mut load.prog_name, program.name);
    bpf(bpf_cmd::BPF_PROG_LOAD, &mut attributes).map(descriptor)
}

/// Why the kernel would take no LSM program at all. It is asked with one that it can't take, since that names no hook: where such programs
/// are permitted it says so, and otherwise that they aren't, before it looks at anything else.
pub(super) fn refuses_lsm_programs() -> Option<io::Error> {
    let instruction =
        |code| bpf_insn { code, _bitfield_align_1: [], _bitfield_1: bpf_insn::new_bitfield_1(0, 0), off: 0, imm: 0 };
    let hookless = ProgramSpec {
        name: "leash_lsm",
        kind: bpf_prog_type::BPF_PROG_TYPE_LSM,
        hook: bpf_attach_type::BPF_LSM_MAC,
        instructions: &RETURN_0.map(instruction),
        license: c"GPL",
        types: None,
    };
    load_program(&hookless, &mut []).err().filter(|error| error.raw_os_error() == Some(libc::EPERM))
}

/// Attaches a program to a cgroup, beside those that are there. It stays as long as the descriptor that is returned.
pub(super) fn attach_program(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, hook: bpf_attach_type) -> io::Result<OwnedFd> {
    let mut attributes = zeroed();
    attributes.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attributes.link_create.__bindgen_anon_2.target_fd = cgroup.as_raw_fd() as u32;
    attributes.link_create.attach_type = hook as u32;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attributes).map(descriptor)
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

/// Sets the one element of a map that has the size of `value`.
pub(super) fn update_content(map: BorrowedFd<'_>, value: &[u8]) -> Result<()> {
    update_raw(map, &0_u32, value.as_ptr().cast())
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
