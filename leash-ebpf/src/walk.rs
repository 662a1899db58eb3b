//! From an object to its path under the session's root, by walking dentries and mounts up to exactly that root.
//!
//! The path is written backwards from the end of an area, so that no length need be known before. The sequence of the kernel's
//! `rename_lock` is read before and after: a path in which a directory moved meanwhile is never used.

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use leash_common::event::Cause;
use leash_common::session::{AMBIGUOUS_MOUNT, Area, MountKey, WalkState};
use leash_common::table::MAX_PATH_BYTES;

use crate::kernel::{bound, copy, layout, member, move_word, read, repeat};
use crate::maps::{MOUNTS, SESSIONS};
use crate::scratch;

/// Names in the longest path, and as many mounts.
const MAX_STEPS: u32 = 2 * 2048;
/// Walks before a path that keeps changing is given up.
const MAX_ATTEMPTS: u32 = 64;
/// `NAME_MAX`
const NAME_MAX: u32 = 255;
/// What is read of a dentry, from `d_parent` on: that, `d_name` (hash, length, pointer), `d_inode`, and short names themselves.
/// Userspace checks `d_name`; whether the name lies there is seen from its pointer.
const DENTRY_WORDS: usize = WalkState::NODE_WORDS;
const INLINE_AT: usize = 4 * 8;
/// The longest name that is taken from there.
const INLINE_NAME: u32 = (DENTRY_WORDS * 8 - INLINE_AT) as u32;
/// Bounds its length.
const INLINE_MASK: u32 = 2 * INLINE_NAME - 1;
/// `PIPEFS_MAGIC`, `ANON_INODE_FS_MAGIC`, `SOCKFS_MAGIC`: objects that are reached by descriptors only.
/// `MNT_NS_INTERNAL` of `fs/mount.h`: `ERR_PTR(-EINVAL)`. `SB_KERNMOUNT` of `include/linux/fs.h`: mounted by the kernel for itself.
const MNT_NS_INTERNAL: u64 = -22_i64 as u64;
const SB_KERNMOUNT: u64 = 1 << 22;
const MAGIC_PIPE: u64 = 0x5049_5045;
const MAGIC_ANONYMOUS: u64 = 0x0904_1934;
const MAGIC_SOCKET: u64 = 0x534f_434b;
/// `TMPFS_MAGIC`, `HUGETLBFS_MAGIC`
const MAGIC_TMPFS: u64 = 0x0102_1994;
const MAGIC_HUGETLBFS: u64 = 0x9584_58f6;
/// `PID_FS_MAGIC`: descriptors of processes, since 6.9.
const MAGIC_PROCESS: u64 = 0x5049_4446;

/// Bounds an index into a path.
pub const PATH_MASK: u32 = MAX_PATH_BYTES as u32 - 1;

const WALKING: u32 = 0;
const ARRIVED: u32 = 1;
const UNREACHABLE: u32 = 2;
const TOO_LONG: u32 = 3;

/// What each step needs; nothing of it changes.
struct Walk {
    area: *mut Area,
    state: *mut WalkState,
    from_dentry: u64,
    from_mnt: u64,
}

unsafe extern "C" fn step(_index: u64, walk: *mut Walk) -> i64 {
    // SAFETY: `repeat` hands over the state it was given; the scratch slot that holds the rest is claimed.
    let (area, walk) = unsafe { ((*walk).area, &mut *(*walk).state) };
    let dentry = walk.dentry;
    if walk.mnt == 0 {
        let key = MountKey { slot: walk.slot as u64, dentry };
        // SAFETY: a number that is copied at once.
        if let Some(&mnt) = unsafe { MOUNTS.get(key) } {
            if mnt == AMBIGUOUS_MOUNT {
                walk.status = UNREACHABLE;
                return 1;
            }
            walk.mnt = mnt;
            walk.mnt_root = dentry;
        }
    }
    if dentry == walk.root_dentry && walk.mnt == walk.root_mnt {
        walk.status = ARRIVED;
        return 1;
    }
    if walk.mnt != 0 && dentry == walk.mnt_root {
        let mount = walk.mnt.wrapping_sub(layout!(at.mount_mnt) as u64);
        // `mnt_parent` and `mnt_mountpoint`; userspace checks that they are neighbours.
        let [above, mountpoint]: [u64; 2] = read(member!(mount, mount_parent));
        if above == mount || above == 0 {
            walk.status = UNREACHABLE;
            return 1;
        }
        walk.dentry = mountpoint;
        walk.mnt = member!(above, mount_mnt);
        walk.mnt_root = read(member!(walk.mnt, vfsmount_root));
        return 0;
    }
    walk.node = read(member!(dentry, dentry_parent));
    let [above, hash_and_length, name, ..] = walk.node;
    let length = (hash_and_length >> 32) as u32;
    if above == dentry || above == 0 || length == 0 || length > NAME_MAX {
        walk.status = UNREACHABLE;
        return 1;
    }
    // A path begins at 1 or after: its terminator counts in the limit of `PATH_MAX` bytes.
    if walk.start < length + 2 {
        walk.status = TOO_LONG;
        return 1;
    }
    walk.start -= length + 1;
    let at = bound::<PATH_MASK>(walk.start);
    // SAFETY: `at` is inside `path`, and `exe` follows with more room than a name needs.
    let whole = unsafe {
        let to = (*area).path.as_mut_ptr().add(at);
        let whole = if length <= INLINE_NAME && name == dentry.wrapping_add(layout!(at.dentry_parent) as u64 + INLINE_AT as u64) {
            copy_inline(&raw const walk.node, to.add(1), length);
            true
        } else {
            copy(to.add(1), bound::<NAME_MAX>(length), name)
        };
        to.write(b'/');
        whole
    };
    if !whole {
        walk.status = UNREACHABLE;
        return 1;
    }
    walk.dentry = above;
    0
}

/// Copies a name that lies in the dentry itself, whole words from its end backwards. Up to seven bytes before `to` are overwritten,
/// where the rest of the path is still to come.
///
/// # Safety
/// `to` must have room for a name, and as many bytes before it.
#[inline(always)]
unsafe fn copy_inline(node: *const [u64; DENTRY_WORDS], to: *mut u8, length: u32) {
    let length = bound::<INLINE_MASK>(length);
    // SAFETY: a name begins `INLINE_AT` bytes into the node, so that a word which ends with a byte of it begins in the node. The
    // verifier checks `to`.
    unsafe {
        let from = node.cast::<u8>().add(INLINE_AT).add(length);
        let to = to.add(length);
        let mut copied = 0;
        while copied < INLINE_NAME as usize {
            if copied >= length {
                break;
            }
            copied += 8;
            move_word(from.sub(copied), to.sub(copied));
        }
    }
}

unsafe extern "C" fn attempt(_index: u64, walk: *mut Walk) -> i64 {
    // SAFETY: as in `step`.
    let (shared, walk) = unsafe { (&mut *walk, &mut *(*walk).state) };
    let before: u32 = read(layout!(rename_lock));
    if before & 1 != 0 {
        return 0;
    }
    walk.dentry = shared.from_dentry;
    walk.mnt = shared.from_mnt;
    walk.mnt_root = if walk.mnt != 0 { read(member!(walk.mnt, vfsmount_root)) } else { 0 };
    walk.start = MAX_PATH_BYTES as u32;
    walk.status = WALKING;
    repeat(MAX_STEPS, step, shared);
    let after: u32 = read(layout!(rename_lock));
    if before == after {
        walk.settled = 1;
        return 1;
    }
    0
}

/// Writes the path of the object of area `area` of scratch slot `index`; without one, leaves the cause. Returns the cause. Of an
/// unreachable object the names that it has stay, for the record.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_walk(index: u32, area: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    let area = area as usize & 1;
    // SAFETY: the claimed slot is ours; `area` is below 2.
    unsafe {
        let slot = (*scratch).slot;
        let Some(session) = SESSIONS.get(slot) else { return Cause::NoImage as u32 };
        let state = &raw mut (*scratch).walk;
        (*state).root_dentry = session.root_dentry;
        (*state).root_mnt = session.root_mnt;
        (*state).status = WALKING;
        (*state).slot = slot;
        (*state).settled = 0;
        let mut walk = Walk {
            area: (&raw mut (*scratch).area).cast::<Area>().add(area),
            state,
            from_dentry: *(*scratch).dentry.as_ptr().add(area),
            from_mnt: *(*scratch).mnt.as_ptr().add(area),
        };
        repeat(MAX_ATTEMPTS, attempt, &mut walk);
        let ended = &*state;
        let mut start = ended.start;
        let cause = if ended.settled == 0 {
            Cause::Renamed
        } else if ended.status == TOO_LONG || ended.status == WALKING {
            Cause::TooLong
        } else if ended.status == UNREACHABLE {
            Cause::Unreachable
        } else {
            Cause::Policy
        };
        if cause as u32 != Cause::Policy as u32 && cause as u32 != Cause::Unreachable as u32 {
            start = MAX_PATH_BYTES as u32;
        } else if start == MAX_PATH_BYTES as u32 && cause as u32 == Cause::Policy as u32 {
            start = MAX_PATH_BYTES as u32 - 1;
            (*walk.area).path.as_mut_ptr().add(MAX_PATH_BYTES - 1).write(b'/');
        }
        (*scratch).start.as_mut_ptr().add(area).write(start);
        (*scratch).cause.as_mut_ptr().add(area).write(cause as u32);
        cause as u32
    }
}

/// Whether a mount that has no path is the private copy under a stacked file system: the kernel opens there what the task opened, and
/// was asked for, above. No task ever gets a descriptor of it.
#[inline(always)]
pub fn is_below_stack(mnt: u64, inode: u64) -> bool {
    let mount = mnt.wrapping_sub(layout!(at.mount_mnt) as u64);
    let namespace: u64 = read(member!(mount, mount_namespace));
    let superblock: u64 = read(member!(inode, inode_sb));
    let flags: u64 = read(member!(superblock, sb_flags));
    namespace == MNT_NS_INTERNAL && flags & SB_KERNMOUNT == 0
}

/// Whether a file is memory with a descriptor (memfd_create(2)), its maker's to use by that: one of tmpfs or hugetlbfs on a mount of the kernel's own.
#[inline(always)]
pub fn is_memory(mnt: u64, inode: u64) -> bool {
    let mount = mnt.wrapping_sub(layout!(at.mount_mnt) as u64);
    let namespace: u64 = read(member!(mount, mount_namespace));
    let superblock: u64 = read(member!(inode, inode_sb));
    let flags: u64 = read(member!(superblock, sb_flags));
    let magic: u64 = read(member!(superblock, sb_magic));
    namespace == MNT_NS_INTERNAL && flags & SB_KERNMOUNT != 0 && (magic == MAGIC_TMPFS || magic == MAGIC_HUGETLBFS)
}

/// Whether the kernel acts with other credentials than the task's, as a stacked file system does on what lies below it.
#[inline(always)]
pub fn is_on_behalf() -> bool {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task_btf() } as u64;
    read::<u64>(member!(task, task_cred)) != read::<u64>(member!(task, task_real_cred))
}

/// Whether an object without a path is one that only descriptors reach, and that holds no file's bytes: a pipe, a socket, an
/// event or poll descriptor, a process.
#[inline(always)]
pub fn is_anonymous(inode: u64) -> bool {
    let superblock: u64 = read(member!(inode, inode_sb));
    let magic: u64 = read(member!(superblock, sb_magic));
    magic == MAGIC_PIPE || magic == MAGIC_ANONYMOUS || magic == MAGIC_SOCKET || magic == MAGIC_PROCESS
}
