//! Calls that change what a path means, or the process itself.

use crate::script::Words;
use crate::sys::{Answer, Arg, c, call};
use nix::libc;

pub(crate) fn operate(operation: &str, w: &Words) -> Option<Answer> {
    let path = |index: usize| c(w.bytes(index));
    Some(match operation {
        "prctl-name" => call(libc::SYS_prctl, [libc::PR_SET_NAME.into(), (&path(0)).into()]),
        "chroot" => call(libc::SYS_chroot, [(&path(0)).into()]),
        "pivot_root" => call(libc::SYS_pivot_root, [(&path(0)).into(), (&path(1)).into()]),
        "unshare" => call(libc::SYS_unshare, [w.int(0).into()]),
        "umount" => call(libc::SYS_umount2, [(&path(0)).into(), 0.into()]),
        "setns" => call(libc::SYS_setns, [w.int(0).into(), w.int(1).into()]),
        "mount" => {
            let (kind, data) = (path(2), path(4));
            call(libc::SYS_mount, [(&path(0)).into(), (&path(1)).into(), (&kind).into(), w.int(3).into(), Arg::Str(&data)])
        }
        // OPEN_TREE_CLONE = 1 (`linux/mount.h`).
        "open_tree" => call(libc::SYS_open_tree, [libc::AT_FDCWD.into(), (&path(0)).into(), 1.into()]),
        // MOVE_MOUNT_F_EMPTY_PATH = 4.
        "move_mount" => {
            call(libc::SYS_move_mount, [w.int(0).into(), (&c(b"")).into(), libc::AT_FDCWD.into(), (&path(1)).into(), 4.into()])
        }
        _ => return None,
    })
}
