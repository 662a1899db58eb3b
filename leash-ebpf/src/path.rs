//! Names: creating, deleting, linking and renaming them, and changing what they name by path.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use leash_common::kind::Kind;

use crate::decide::{judge, leash_judge};
use crate::gains::TREE;
use crate::kernel::{argument, member, read};
use crate::scratch::{claim, none_left, verdict};
use crate::session::governed;
use crate::walk::{is_memory, leash_walk};

/// `include/uapi/linux/fs.h`
const RENAME_EXCHANGE: u64 = 2;
const S_IFMT: u16 = 0o170_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFSOCK: u16 = 0o140_000;

/// Asks `kinds` of the object with this mount (0: to be found by the dentry) and dentry.
#[inline(always)]
pub fn ask_object(slot: u32, mnt: u64, dentry: u64, kinds: u32) -> i32 {
    let Some(claim) = claim(slot) else { return none_left(slot, kinds) };
    claim.object(0, mnt, dentry);
    leash_walk(claim.index, 0);
    let denied = judge(&claim, kinds);
    claim.release();
    verdict(denied)
}

/// Hooks with `const struct path *path`.
#[inline(always)]
fn ask_path(context: &impl EbpfContext, kind: Kind) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let path = argument(context, 0);
    let (mnt, dentry): (u64, u64) = (read(member!(path, path_mnt)), read(member!(path, path_dentry)));
    // Only a descriptor of it leads here.
    if is_memory(mnt, read(member!(dentry, dentry_inode))) {
        return 0;
    }
    ask_object(slot, mnt, dentry, kind.bit())
}

/// Hooks with `const struct path *dir, struct dentry *dentry`.
#[inline(always)]
fn ask_name(context: &impl EbpfContext, kinds: u32) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let dir = argument(context, 0);
    ask_object(slot, read(member!(dir, path_mnt)), argument(context, 1), kinds)
}

/// File type of what a dentry names; 0 if nothing.
#[inline(always)]
fn file_type(dentry: u64) -> u16 {
    let inode: u64 = read(member!(dentry, dentry_inode));
    if inode == 0 {
        return 0;
    }
    let mode: u16 = read(member!(inode, inode_mode));
    mode & S_IFMT
}

/// `LSM_HOOK(int, 0, path_mknod, const struct path *dir, struct dentry *dentry, umode_t mode, unsigned int dev)`: every new file
/// too. A Unix socket's name comes into being here, resolved, so this is where its bind is asked.
#[lsm(hook = "path_mknod")]
pub fn path_mknod(context: LsmContext) -> i32 {
    let socket = argument(&context, 2) as u16 & S_IFMT == S_IFSOCK;
    let kinds = if socket { Kind::FileCreate.bit() | Kind::UnixListen.bit() } else { Kind::FileCreate.bit() };
    ask_name(&context, kinds)
}

/// `LSM_HOOK(int, 0, path_mkdir, const struct path *dir, struct dentry *dentry, umode_t mode)`
#[lsm(hook = "path_mkdir")]
pub fn path_mkdir(context: LsmContext) -> i32 {
    ask_name(&context, Kind::FileCreate.bit())
}

/// `LSM_HOOK(int, 0, path_symlink, const struct path *dir, struct dentry *dentry, const char *old_name)`
#[lsm(hook = "path_symlink")]
pub fn path_symlink(context: LsmContext) -> i32 {
    ask_name(&context, Kind::FileCreate.bit())
}

/// `LSM_HOOK(int, 0, path_unlink, const struct path *dir, struct dentry *dentry)`
#[lsm(hook = "path_unlink")]
pub fn path_unlink(context: LsmContext) -> i32 {
    ask_name(&context, Kind::FileDelete.bit())
}

/// `LSM_HOOK(int, 0, path_rmdir, const struct path *dir, struct dentry *dentry)`
#[lsm(hook = "path_rmdir")]
pub fn path_rmdir(context: LsmContext) -> i32 {
    ask_name(&context, Kind::FileDelete.bit())
}

/// `LSM_HOOK(int, 0, path_truncate, const struct path *path)`
#[lsm(hook = "path_truncate")]
pub fn path_truncate(context: LsmContext) -> i32 {
    ask_path(&context, Kind::FileWrite)
}

/// `LSM_HOOK(int, 0, path_chmod, const struct path *path, umode_t mode)`
#[lsm(hook = "path_chmod")]
pub fn path_chmod(context: LsmContext) -> i32 {
    ask_path(&context, Kind::FileSetAttributes)
}

/// `LSM_HOOK(int, 0, path_chown, const struct path *path, kuid_t uid, kgid_t gid)`
#[lsm(hook = "path_chown")]
pub fn path_chown(context: LsmContext) -> i32 {
    ask_path(&context, Kind::FileSetAttributes)
}

/// `LSM_HOOK(int, 0, path_notify, const struct path *path, u64 mask, unsigned int obj_type)`: a watch on a directory tells the names
/// in it, one on a file when it is used.
#[lsm(hook = "path_notify")]
pub fn path_notify(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let path = argument(&context, 0);
    let dentry = read(member!(path, path_dentry));
    let kind = if file_type(dentry) == S_IFDIR { Kind::DirList } else { Kind::FileRead };
    ask_object(slot, read(member!(path, path_mnt)), dentry, kind.bit())
}

/// The later uses that matter when an object of this type gets another name, for `leash_gains`.
#[inline(always)]
fn uses(kind: u16) -> u32 {
    match kind {
        S_IFDIR => Kind::LATER_USE_BELOW_DIRECTORY | TREE,
        S_IFSOCK => Kind::LATER_USE_SOCKET,
        _ => Kind::LATER_USE_FILE,
    }
}

/// `LSM_HOOK(int, 0, path_link, struct dentry *old_dentry, const struct path *new_dir, struct dentry *new_dentry)`
#[lsm(hook = "path_link")]
pub fn path_link(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let old_dentry = argument(&context, 0);
    let dir = argument(&context, 1);
    // A link never leaves its mount, so the directory's mount is the file's.
    let mnt: u64 = read(member!(dir, path_mnt));
    let old_kinds = Kind::FileLink.bit();
    let new_kinds = Kind::FileLink.bit() | Kind::FileCreate.bit();
    let Some(claim) = claim(slot) else { return none_left(slot, new_kinds) };
    claim.object(0, mnt, old_dentry);
    claim.object(1, mnt, argument(&context, 2));
    leash_walk(claim.index, 0);
    leash_walk(claim.index, 1);
    let denied = leash_judge(claim.index, old_kinds, new_kinds, uses(file_type(old_dentry)), 0);
    claim.release();
    verdict(denied)
}

/// `LSM_HOOK(int, 0, path_rename, const struct path *old_dir, struct dentry *old_dentry, const struct path *new_dir, struct dentry
/// *new_dentry, unsigned int flags)`. An exchange moves both objects, so it asks both ways.
#[lsm(hook = "path_rename")]
pub fn path_rename(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let old_dir = argument(&context, 0);
    let old_dentry = argument(&context, 1);
    let new_dir = argument(&context, 2);
    let new_dentry = argument(&context, 3);
    let exchange = argument(&context, 4) as u32 as u64 & RENAME_EXCHANGE != 0;
    let old_type = file_type(old_dentry);
    let new_type = file_type(new_dentry);
    let mut old_kinds = Kind::FileRename.bit() | Kind::FileDelete.bit();
    let mut new_kinds = Kind::FileRename.bit() | Kind::FileCreate.bit();
    if new_type != 0 {
        new_kinds |= Kind::FileDelete.bit();
    }
    if exchange {
        old_kinds |= Kind::FileCreate.bit();
    }
    let Some(claim) = claim(slot) else { return none_left(slot, new_kinds) };
    claim.object(0, read(member!(old_dir, path_mnt)), old_dentry);
    claim.object(1, read(member!(new_dir, path_mnt)), new_dentry);
    leash_walk(claim.index, 0);
    leash_walk(claim.index, 1);
    let back = if exchange { uses(new_type) } else { 0 };
    let denied = leash_judge(claim.index, old_kinds, new_kinds, uses(old_type), back);
    claim.release();
    verdict(denied)
}
