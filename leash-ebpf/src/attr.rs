//! Attributes that are changed through hooks which see a dentry and no mount: times, extended attributes, access control lists.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use leash_common::event::Cause;
use leash_common::kind::Kind;

use crate::decide::judge;
use crate::kernel::{argument, layout, member, read};
use crate::scratch::{claim, none_left, verdict};
use crate::session::governed;
use crate::walk::{is_on_behalf, leash_walk};

/// `include/linux/fs.h`
const ATTR_ATIME: u32 = 1 << 4;
const ATTR_MTIME: u32 = 1 << 5;
const ATTR_MODE: u32 = 1;
const ATTR_UID: u32 = 1 << 1;
const ATTR_GID: u32 = 1 << 2;
const ATTR_SIZE: u32 = 1 << 3;

#[inline(always)]
fn ask_dentry(context: &impl EbpfContext, position: u32) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let kinds = Kind::FileSetAttributes.bit();
    let Some(claim) = claim(slot) else { return none_left(slot, kinds) };
    claim.object(0, 0, argument(context, position));
    let cause = leash_walk(claim.index, 0);
    if cause == Cause::Unreachable as u32 && is_on_behalf() {
        // A stacked file system hands down what the task was asked for above.
        claim.release();
        return 0;
    }
    let denied = judge(&claim, kinds);
    claim.release();
    verdict(denied)
}

/// `LSM_HOOK(int, 0, inode_setattr, struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *attr)`, without the first
/// argument on older kernels. Only for times: mode, owner and size have hooks that see the mount.
#[lsm(hook = "inode_setattr")]
pub fn inode_setattr(context: LsmContext) -> i32 {
    if governed().is_none() {
        return 0;
    }
    let iattr = argument(&context, layout!(argument.setattr_iattr));
    let valid: u32 = read(member!(iattr, iattr_valid));
    if valid & (ATTR_ATIME | ATTR_MTIME) == 0 || valid & (ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_SIZE) != 0 {
        return 0;
    }
    ask_dentry(&context, layout!(argument.setattr_dentry))
}

/// `LSM_HOOK(int, 0, inode_setxattr, struct mnt_idmap *idmap, struct dentry *dentry, const char *name, …)`
#[lsm(hook = "inode_setxattr")]
pub fn inode_setxattr(context: LsmContext) -> i32 {
    ask_dentry(&context, layout!(argument.setxattr_dentry))
}

/// `LSM_HOOK(int, 0, inode_removexattr, struct mnt_idmap *idmap, struct dentry *dentry, const char *name)`
#[lsm(hook = "inode_removexattr")]
pub fn inode_removexattr(context: LsmContext) -> i32 {
    ask_dentry(&context, layout!(argument.removexattr_dentry))
}

/// `LSM_HOOK(int, 0, inode_set_acl, struct mnt_idmap *idmap, struct dentry *dentry, …)`, since 6.2.
#[lsm(hook = "inode_set_acl")]
pub fn inode_set_acl(context: LsmContext) -> i32 {
    ask_dentry(&context, 1)
}

/// `LSM_HOOK(int, 0, inode_remove_acl, struct mnt_idmap *idmap, struct dentry *dentry, …)`, since 6.2.
#[lsm(hook = "inode_remove_acl")]
pub fn inode_remove_acl(context: LsmContext) -> i32 {
    ask_dentry(&context, 1)
}
