//! Structures of a kernel that never was.

use crate::kernel::{layout, member};

/// Words of every structure: more than the offset of any member.
const WORDS: usize = 256;

/// A structure of zeros; its address.
pub fn structure() -> u64 {
    Box::leak(Box::new([0_u64; WORDS])).as_ptr() as u64
}

/// Writes a member, by its address.
pub fn set<T>(address: u64, value: T) {
    // SAFETY: a member of a structure that a fixture made.
    unsafe { (address as *mut T).write_unaligned(value) };
}

/// A directory entry; one without `parent` is its own, as the root of a file system is.
pub fn dentry(parent: Option<u64>, name: &[u8]) -> u64 {
    let dentry = structure();
    set(member!(dentry, dentry_parent), parent.unwrap_or(dentry));
    set(member!(dentry, dentry_name_len), name.len() as u32);
    // The kernel keeps a short name in the entry, and all end with a zero.
    let bytes = if name.len() < 32 {
        member!(dentry, dentry_parent) + 32
    } else {
        Box::leak(vec![0_u8; name.len() + 1].into_boxed_slice()).as_ptr() as u64
    };
    for (place, &byte) in (bytes..).zip(name) {
        set(place, byte);
    }
    set(member!(dentry, dentry_name), bytes);
    set(member!(dentry, dentry_inode), structure());
    dentry
}

/// The entry at the end of `names`, below `from`.
pub fn below(from: u64, names: &[&str]) -> u64 {
    names.iter().fold(from, |parent, name| dentry(Some(parent), name.as_bytes()))
}

/// A mount that shows `root`, on `mountpoint` of the mount `parent`; without one, it is the topmost. The address of its `struct vfsmount`.
pub fn mount(root: u64, on: Option<(u64, u64)>) -> u64 {
    let mount = structure();
    let shown = member!(mount, mount_mnt);
    set(member!(shown, vfsmount_root), root);
    let children = member!(mount, mount_children);
    set(children, children);
    let (parent, mountpoint) = on.map_or((mount, root), |(mnt, mountpoint)| (whole(mnt), mountpoint));
    set(member!(mount, mount_parent), parent);
    set(member!(mount, mount_mountpoint), mountpoint);
    if on.is_some() {
        // At the head of its parent's list of children.
        let list = member!(parent, mount_children);
        let first: u64 = crate::kernel::read(list);
        let link = member!(mount, mount_child);
        set(link, first);
        set(list, link);
    }
    shown
}

/// The `struct mount` around a `struct vfsmount`.
fn whole(mnt: u64) -> u64 {
    mnt - u64::from(layout!(at.mount_mnt))
}

/// Numbers that look like chance, and are the same in each run (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % end as u64) as usize
    }
}
