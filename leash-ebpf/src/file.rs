//! Open files: opening, receiving a descriptor, truncating one.

use core::ffi::c_void;

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use leash_common::event::Cause;
use leash_common::kind::Kind;

use crate::decide::judge;
use crate::kernel::{argument, layout, load_at, member, read};
use crate::scratch::{claim, none_left, verdict};
use crate::session::governed;
use crate::walk::{is_anonymous, is_below_stack, is_memory, leash_walk};

/// `include/linux/fs.h`
const FMODE_READ: u32 = 1;
const FMODE_WRITE: u32 = 2;
/// `__FMODE_EXEC`, set in the flags by the kernel alone.
const FMODE_EXEC: u32 = 0x20;
/// `__O_TMPFILE` of `include/uapi/asm-generic/fcntl.h`
const O_TMPFILE: u32 = 0o20_000_000;
const S_IFMT: u16 = 0o170_000;
const S_IFDIR: u16 = 0o040_000;

/// Asks `kinds` of an open file.
#[inline(always)]
pub fn ask_file(slot: u32, file: u64, kinds: u32) -> i32 {
    let inode: u64 = read(member!(file, file_inode));
    let Some(claim) = claim(slot) else { return none_left(slot, kinds) };
    claim.object(0, read(member!(file, file_mnt)), read(member!(file, file_dentry)));
    let cause = leash_walk(claim.index, 0);
    if cause == Cause::Unreachable as u32 && is_anonymous(inode) {
        claim.release();
        return 0;
    }
    let denied = judge(&claim, kinds);
    claim.release();
    verdict(denied)
}

/// Asks `kinds` of a file that is used through a descriptor, unless it is memory.
#[inline(always)]
fn ask_descriptor(slot: u32, file: u64, kinds: u32) -> i32 {
    let is_memory = is_memory(read(member!(file, file_mnt)), read(member!(file, file_inode)));
    if is_memory { 0 } else { ask_file(slot, file, kinds) }
}

/// What an open in this mode may do with the object.
#[inline(always)]
fn kinds_of(file: u64) -> u32 {
    let inode: u64 = read(member!(file, file_inode));
    let mode: u16 = read(member!(inode, inode_mode));
    kinds_for(mode, read(member!(file, file_mode)))
}

#[inline(always)]
fn kinds_for(mode: u16, opened: u32) -> u32 {
    if mode & S_IFMT == S_IFDIR {
        return if opened & FMODE_READ != 0 { Kind::DirList.bit() } else { 0 };
    }
    let mut kinds = 0;
    if opened & FMODE_READ != 0 {
        kinds |= Kind::FileRead.bit();
    }
    if opened & FMODE_WRITE != 0 {
        kinds |= Kind::FileWrite.bit();
    }
    kinds
}

/// `LSM_HOOK(int, 0, file_open, struct file *file)`
#[lsm(hook = "file_open")]
pub fn file_open(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    // SAFETY: the hook's argument, its inode and its dentry are never null and of known type.
    let (flags, mode, opened, mnt, dentry, stacked) = unsafe {
        let file: *const c_void = context.arg(0);
        let inode: *const c_void = load_at(file, layout!(at.file_inode));
        let dentry: *const c_void = load_at(file, layout!(at.file_dentry));
        (
            load_at::<u32>(file, layout!(at.file_flags)),
            load_at::<u16>(inode, layout!(at.inode_mode)),
            load_at::<u32>(file, layout!(at.file_mode)),
            load_at::<u64>(file, layout!(at.file_mnt)),
            dentry as u64,
            load_at::<u64>(inode, layout!(at.inode_sb)) != load_at::<u64>(dentry, layout!(at.dentry_sb)),
        )
    };
    if stacked {
        // Before 6.5 a stacked file system opens the file below under the name of its own, which was asked already. No open by a
        // task has an inode and a name of different file systems.
        return 0;
    }
    if flags & FMODE_EXEC != 0 {
        // The exec itself and each mapping ask for `ProcessExec`.
        return 0;
    }
    let mut kinds = kinds_for(mode, opened);
    if flags & O_TMPFILE != 0 {
        kinds |= Kind::FileCreate.bit();
    }
    if kinds == 0 {
        return 0;
    }
    let Some(claim) = claim(slot) else { return none_left(slot, kinds) };
    claim.object(0, mnt, dentry);
    let cause = leash_walk(claim.index, 0);
    if cause == Cause::Unreachable as u32 {
        let inode: u64 = read(member!(argument(&context, 0), file_inode));
        if is_anonymous(inode) || is_below_stack(read(member!(argument(&context, 0), file_mnt)), inode) {
            claim.release();
            return 0;
        }
    }
    let denied = judge(&claim, kinds);
    claim.release();
    verdict(denied)
}

/// `LSM_HOOK(int, 0, file_receive, struct file *file)`: a descriptor arrives over a socket or from another process.
#[lsm(hook = "file_receive")]
pub fn file_receive(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let file = argument(&context, 0);
    let kinds = kinds_of(file);
    if kinds == 0 { 0 } else { ask_descriptor(slot, file, kinds) }
}

/// `FS_IOC_SETFLAGS`, `FS_IOC_SETVERSION`, `FS_IOC_FSSETXATTR` and `FS_IOC_ENABLE_VERITY` of `include/uapi/linux/fs.h` and `fsverity.h`:
/// attributes that are set through any descriptor, for reading too.
const ATTRIBUTE_COMMANDS: [u32; 4] = [0x4008_6602, 0x4008_7602, 0x401c_5820, 0x4080_6685];

/// `LSM_HOOK(int, 0, file_ioctl, struct file *file, unsigned int cmd, unsigned long arg)`. The other commands that change a file
/// want a descriptor for writing.
#[lsm(hook = "file_ioctl")]
pub fn file_ioctl(context: LsmContext) -> i32 {
    let command = argument(&context, 1) as u32;
    let [flags, version, extended, verity] = ATTRIBUTE_COMMANDS;
    if command != flags && command != version && command != extended && command != verity {
        return 0;
    }
    let Some(slot) = governed() else { return 0 };
    ask_file(slot, argument(&context, 0), Kind::FileSetAttributes.bit())
}

/// `LSM_HOOK(int, 0, file_truncate, struct file *file)`, since 6.2; before, `path_truncate` sees these calls too.
#[lsm(hook = "file_truncate")]
pub fn file_truncate(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    ask_descriptor(slot, argument(&context, 0), Kind::FileWrite.bit())
}
