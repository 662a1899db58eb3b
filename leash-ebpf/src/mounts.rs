//! The session's root and its mounts, captured at the session's first exec.

use leash_common::session::{ACTIVE, AMBIGUOUS_MOUNT, ARMING, MountKey};

use crate::kernel::{compare_exchange, layout, member, read, repeat};
use crate::maps::{MOUNTS, SESSIONS};

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;

/// Steps through the tree of mounts: two for each mount.
const MAX_STEPS: u32 = 8192;
const BPF_NOEXIST: u64 = 1;

struct Tour {
    slot: u64,
    root: u64,
    mount: u64,
    descend: u32,
    complete: u32,
}

unsafe extern "C" fn step(_index: u64, tour: *mut Tour) -> i64 {
    // SAFETY: `repeat` hands over the state it was given.
    let tour = unsafe { &mut *tour };
    let mount = tour.mount;
    if tour.descend != 0 {
        let mnt = member!(mount, mount_mnt);
        let dentry: u64 = read(member!(mnt, vfsmount_root));
        let key = MountKey { slot: tour.slot, dentry };
        if MOUNTS.insert(key, mnt, BPF_NOEXIST).is_err()
            && !covers_alike(mount, key)
            && MOUNTS.insert(key, AMBIGUOUS_MOUNT, 0).is_err()
        {
            return 1;
        }
        let list = member!(mount, mount_children);
        let first: u64 = read(list);
        if first == 0 {
            return 1;
        }
        if first != list {
            tour.mount = first.wrapping_sub(layout!(at.mount_child) as u64);
            return 0;
        }
        tour.descend = 0;
        return 0;
    }
    if mount == tour.root {
        tour.complete = 1;
        return 1;
    }
    let above: u64 = read(member!(mount, mount_parent));
    let next: u64 = read(member!(mount, mount_child));
    if above == 0 || next == 0 {
        return 1;
    }
    if next == member!(above, mount_children) {
        tour.mount = above;
        return 0;
    }
    tour.mount = next.wrapping_sub(layout!(at.mount_child) as u64);
    tour.descend = 1;
    0
}

/// Binds of one directory over itself that are seen through.
const MAX_COVERS: u32 = 4;

#[inline(always)]
fn root_of(mount: u64) -> u64 {
    read(member!(member!(mount, mount_mnt), vfsmount_root))
}

/// The mount under `mount` where that covers the very directory that it shows, as a workspace is bound over itself: both give the
/// same paths.
#[inline(always)]
fn uncovered(mut mount: u64) -> u64 {
    for _ in 0..MAX_COVERS {
        let above: u64 = read(member!(mount, mount_parent));
        if above == mount || above == 0 || read::<u64>(member!(mount, mount_mountpoint)) != root_of(mount) {
            break;
        }
        mount = above;
    }
    mount
}

#[inline(always)]
fn known(key: MountKey) -> Option<u64> {
    // SAFETY: a number that is copied at once.
    unsafe { MOUNTS.get(key) }.copied().filter(|&mnt| mnt != AMBIGUOUS_MOUNT)
}

/// Whether paths through `mount` are those through the mount that is known for this directory. What is mounted inside a bound
/// directory comes twice: with the root's mounts and with the bind's, on the same mountpoint of mounts that give the same paths.
#[inline(always)]
fn covers_alike(mount: u64, key: MountKey) -> bool {
    let Some(mnt) = known(key) else { return false };
    let one = uncovered(mount);
    let other = uncovered(mnt.wrapping_sub(layout!(at.mount_mnt) as u64));
    if one == other {
        return true;
    }
    if read::<u64>(member!(one, mount_mountpoint)) != read::<u64>(member!(other, mount_mountpoint)) {
        return false;
    }
    let one = uncovered(read(member!(one, mount_parent)));
    let other = uncovered(read(member!(other, mount_parent)));
    // Both were come by before. While their root is not ambiguous, all its mounts give the same paths.
    one == other || root_of(one) == root_of(other) && known(MountKey { slot: key.slot, dentry: root_of(one) }).is_some()
}

/// Makes the session of `slot` active with the current task's root, if it was arming. Mounts that can't be captured have no entry,
/// and without one nothing on them is reachable for the hooks that need it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_activate(slot: u32) -> u32 {
    let Some(session) = SESSIONS.get_ptr_mut(slot) else { return 0 };
    // SAFETY: a map value; only one task is between the init's start and the first exec.
    unsafe {
        if core::ptr::read_volatile(&raw const (*session).state) != ARMING {
            return 0;
        }
        let task = bpf_get_current_task_btf() as u64;
        let fs: u64 = read(member!(task, task_fs));
        let mnt: u64 = read(member!(fs, fs_root_mnt));
        let dentry: u64 = read(member!(fs, fs_root_dentry));
        (*session).root_mnt = mnt;
        (*session).root_dentry = dentry;
        let root = mnt.wrapping_sub(layout!(at.mount_mnt) as u64);
        let mut tour = Tour { slot: slot as u64, root, mount: root, descend: 1, complete: 0 };
        repeat(MAX_STEPS, step, &mut tour);
        compare_exchange(&raw mut (*session).state, ARMING, ACTIVE);
    }
    1
}
