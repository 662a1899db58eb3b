//! Assembles the session's root file system in the launcher's own mount namespace: the host's, read-only, with the plan's
//! binds at their own paths. libcontainer then adds `/proc`, `/sys` and `/dev` and pivots into it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::mounts::{Attributes, attach, clone_tree, open_beneath, set_attributes};
use super::plan::{Bind, Plan};
use super::{SandboxError, plan, state};

/// Trees of the host that the session gets fresh ones for.
const REPLACED: [&str; 3] = ["proc", "sys", "dev"];
/// Where libcontainer looks for cgroups.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Enters a mount namespace of our own and assembles the root there. Returns its path.
pub(super) fn assemble(plan: &Plan) -> Result<PathBuf, SandboxError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(SandboxError::system("create a mount namespace"))?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(SandboxError::system("make the mount namespace private"))?;
    match &plan.cgroup {
        Some(cgroup) => present_unified_cgroups(&cgroup.mount)?,
        None => present_no_cgroups()?,
    }

    let root = plan.state_dir.join(state::ROOT);
    let host = clone_tree(Path::new("/"))?;
    let read_only = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let failed = || SandboxError::path("mount the host's files read-only at", &root);
    set_attributes(&host, &Attributes { set: read_only, recursive: true }).map_err(|errno| failed()(errno.into()))?;
    let target = open_beneath(None, &root).map_err(|errno| failed()(errno.into()))?;
    attach(&host, &target).map_err(|errno| failed()(errno.into()))?;

    // In an ordinary user's namespace the host's mounts hang together for good. What is mounted over them hides them as well.
    let may_detach = plan.cgroup.is_some();
    for name in REPLACED.iter().filter(|_| may_detach) {
        detach_all(&root.join(name))?;
    }
    if plan.private_tmp {
        let tmp = root.join("tmp");
        if may_detach {
            detach_all(&tmp)?;
        }
        mount(Some("tmpfs"), &tmp, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=1777"))
            .map_err(|errno| SandboxError::path("mount a private file system at", "/tmp")(errno.into()))?;
    }
    let root_fd = open_beneath(None, &root).map_err(|errno| failed()(errno.into()))?;
    for bind in plan::order_binds(plan.binds.clone()) {
        bind_into(&root, &root_fd, &bind)?;
    }
    Ok(root)
}

/// libcontainer handles cgroup v2 only where it is mounted at `/sys/fs/cgroup`. On a hybrid machine it is one directory below,
/// so in this namespace we move it to where it is looked for: to mount it anew would wait for the whole machine.
fn present_unified_cgroups(mounted_at: &Path) -> Result<(), SandboxError> {
    if mounted_at == Path::new(CGROUP_ROOT) {
        return Ok(());
    }
    let failed = |errno: Errno| SandboxError::path("mount cgroup v2 at", CGROUP_ROOT)(errno.into());
    let tree = clone_tree(mounted_at)?;
    let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    set_attributes(&tree, &Attributes { set, recursive: true }).map_err(failed)?;
    detach_all(Path::new(CGROUP_ROOT))?;
    attach(&tree, &open_beneath(None, Path::new(CGROUP_ROOT)).map_err(failed)?).map_err(failed)
}

/// For an ordinary user: a view of the hierarchy in which libcontainer finds that it may make no cgroup, wherever the host has its own.
fn present_no_cgroups() -> Result<(), SandboxError> {
    unshare(CloneFlags::CLONE_NEWCGROUP).map_err(SandboxError::system("create a cgroup namespace"))?;
    match mount(Some("cgroup2"), CGROUP_ROOT, Some("cgroup2"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, None::<&str>) {
        // EBUSY: it is there already, and its root is that of the namespace.
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(errno) => Err(SandboxError::path("mount cgroup v2 at", CGROUP_ROOT)(errno.into())),
    }
}

/// Takes away every mount that is stacked on `path`, with all below it.
fn detach_all(path: &Path) -> Result<(), SandboxError> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // No mount point (any more), or no such directory.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(SandboxError::path("detach", path)(errno.into())),
        }
    }
}

fn bind_into(root: &Path, root_fd: &OwnedFd, bind: &Bind) -> Result<(), SandboxError> {
    let failed = || SandboxError::path("bind into the container", &bind.path);
    let tree = clone_tree(&bind.path)?;
    let base = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let set = if bind.writable { base } else { base | libc::MOUNT_ATTR_RDONLY };
    set_attributes(&tree, &Attributes { set, recursive: true }).map_err(|errno| failed()(errno.into()))?;
    let target = match open_beneath(Some(root_fd), &bind.path) {
        Ok(target) => target,
        Err(Errno::ENOENT) => {
            // Only possible on the session's own /tmp; everything else shows the host's files.
            create_mount_point(root, &bind.path)?;
            open_beneath(Some(root_fd), &bind.path).map_err(|errno| failed()(errno.into()))?
        }
        Err(errno) => return Err(failed()(errno.into())),
    };
    attach(&tree, &target).map_err(|errno| failed()(errno.into()))
}

fn create_mount_point(root: &Path, path: &Path) -> Result<(), SandboxError> {
    let target = root.join(path.strip_prefix("/").unwrap_or(path));
    let created = if path.is_dir() {
        fs::create_dir_all(&target)
    } else {
        target.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&target, ""))
    };
    created.map_err(SandboxError::path("create the mount point for", path))
}
