//! From an object to its path under the session's root, by walking dentries and mounts up to exactly that root.
//!
//! The path is written backwards from the end of an area, so that no length need be known before. The sequence of the kernel's
//! `rename_lock` is read before and after: a path in which a directory moved meanwhile is never used.

use leash_common::event::Cause;
use leash_common::session::{AMBIGUOUS_MOUNT, Area, MountKey};
use leash_common::table::MAX_PATH_BYTES;

use crate::kernel::{copy, layout, member, read, repeat};
use crate::maps::{MOUNTS, SESSIONS};
use crate::scratch;

/// Names in the longest path, and as many mounts.
const MAX_STEPS: u32 = 2 * 2048;
/// Walks before a path that keeps changing is given up.
const MAX_ATTEMPTS: u32 = 64;
/// `NAME_MAX`
const NAME_MAX: u32 = 255;
/// `PIPEFS_MAGIC`, `ANON_INODE_FS_MAGIC`, `SOCKFS_MAGIC`: objects that are reached by descriptors only.
const MAGIC_PIPE: u64 = 0x5049_5045;
const MAGIC_ANONYMOUS: u64 = 0x0904_1934;
const MAGIC_SOCKET: u64 = 0x534f_434b;

const WALKING: u32 = 0;
const ARRIVED: u32 = 1;
const UNREACHABLE: u32 = 2;
const TOO_LONG: u32 = 3;

struct Walk {
    area: *mut Area,
    dentry: u64,
    mnt: u64,
    mnt_root: u64,
    root_dentry: u64,
    root_mnt: u64,
    start: u32,
    status: u32,
    slot: u32,
    settled: u32,
    from_dentry: u64,
    from_mnt: u64,
}

/// What a dentry says of itself: its parent, and its name with the length.
#[inline(always)]
fn parent(dentry: u64) -> u64 {
    read(member!(dentry, dentry_parent))
}

unsafe extern "C" fn step(_index: u64, walk: *mut Walk) -> i64 {
    // SAFETY: `repeat` hands over the state it was given.
    let walk = unsafe { &mut *walk };
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
        let above: u64 = read(member!(mount, mount_parent));
        if above == mount || above == 0 {
            walk.status = UNREACHABLE;
            return 1;
        }
        walk.dentry = read(member!(mount, mount_mountpoint));
        walk.mnt = member!(above, mount_mnt);
        walk.mnt_root = read(member!(walk.mnt, vfsmount_root));
        return 0;
    }
    let above = parent(dentry);
    let length: u32 = read(member!(dentry, dentry_name_len));
    if above == dentry || above == 0 || length == 0 || length > NAME_MAX {
        walk.status = UNREACHABLE;
        return 1;
    }
    let name: u64 = read(member!(dentry, dentry_name));
    // A path begins at 1 or after: its terminator counts in the limit of `PATH_MAX` bytes.
    if walk.start < length + 2 {
        walk.status = TOO_LONG;
        return 1;
    }
    walk.start -= length + 1;
    let at = walk.start as usize & (MAX_PATH_BYTES - 1);
    // SAFETY: `at` is inside `path`, and `exe` follows with more room than a name needs.
    let whole = unsafe {
        let to = (*walk.area).path.as_mut_ptr().add(at);
        to.write(b'/');
        copy(to.add(1), length & NAME_MAX, name)
    };
    if !whole {
        walk.status = UNREACHABLE;
        return 1;
    }
    walk.dentry = above;
    0
}

unsafe extern "C" fn attempt(_index: u64, walk: *mut Walk) -> i64 {
    // SAFETY: as in `step`.
    let walk = unsafe { &mut *walk };
    let before: u32 = read(layout!(rename_lock));
    if before & 1 != 0 {
        return 0;
    }
    walk.dentry = walk.from_dentry;
    walk.mnt = walk.from_mnt;
    walk.mnt_root = if walk.mnt != 0 { read(member!(walk.mnt, vfsmount_root)) } else { 0 };
    walk.start = MAX_PATH_BYTES as u32;
    walk.status = WALKING;
    repeat(MAX_STEPS, step, walk);
    let after: u32 = read(layout!(rename_lock));
    if before == after {
        walk.settled = 1;
        return 1;
    }
    0
}

/// Writes the path of the object of area `area` of scratch slot `index`; without one, leaves the cause. Returns the cause.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_walk(index: u32, area: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    let area = area as usize & 1;
    // SAFETY: the claimed slot is ours; `area` is below 2.
    unsafe {
        let slot = (*scratch).slot;
        let Some(session) = SESSIONS.get(slot) else { return Cause::NoImage as u32 };
        let mut walk = Walk {
            area: (*scratch).area.as_mut_ptr().add(area),
            dentry: 0,
            mnt: 0,
            mnt_root: 0,
            root_dentry: session.root_dentry,
            root_mnt: session.root_mnt,
            start: MAX_PATH_BYTES as u32,
            status: WALKING,
            slot,
            settled: 0,
            from_dentry: *(*scratch).dentry.as_ptr().add(area),
            from_mnt: *(*scratch).mnt.as_ptr().add(area),
        };
        repeat(MAX_ATTEMPTS, attempt, &mut walk);
        let mut start = walk.start;
        let cause = if walk.settled == 0 {
            Cause::Renamed
        } else if walk.status == TOO_LONG || walk.status == WALKING {
            Cause::TooLong
        } else if walk.status == UNREACHABLE {
            Cause::Unreachable
        } else {
            Cause::Policy
        };
        if cause as u32 != Cause::Policy as u32 {
            start = MAX_PATH_BYTES as u32;
        } else if start == MAX_PATH_BYTES as u32 {
            start = MAX_PATH_BYTES as u32 - 1;
            (*walk.area).path.as_mut_ptr().add(MAX_PATH_BYTES - 1).write(b'/');
        }
        (*scratch).start.as_mut_ptr().add(area).write(start);
        (*scratch).cause.as_mut_ptr().add(area).write(cause as u32);
        cause as u32
    }
}

/// Whether an object without a path is one that only descriptors reach, and that holds no file's bytes: a pipe, a socket, an
/// event or poll descriptor.
#[inline(always)]
pub fn is_anonymous(inode: u64) -> bool {
    let superblock: u64 = read(member!(inode, inode_sb));
    let magic: u64 = read(member!(superblock, sb_magic));
    magic == MAGIC_PIPE || magic == MAGIC_ANONYMOUS || magic == MAGIC_SOCKET
}
