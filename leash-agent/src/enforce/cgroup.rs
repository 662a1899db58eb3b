//! Where a cgroup is in its tree, and whether it has processes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{EnforceError, Result};

/// The mount point of cgroup v2.
pub(super) fn mount_point() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("cgroup2 ").then(|| before.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// Inode number of the initial cgroup namespace (`CGROUP_NS_INIT_INO` in linux/nsfs.h).
const INITIAL_NAMESPACE: u64 = 0xEFFF_FFFB;

/// Whether this process sees the cgroup tree from its root. In a cgroup namespace of its own it sees depths from another place than
/// the kernel's helper does, and a session looked for at a wrong depth would not be found: ungoverned.
pub fn sees_the_whole_tree() -> bool {
    fs::metadata("/proc/self/ns/cgroup").is_ok_and(|namespace| namespace.ino() == INITIAL_NAMESPACE)
}

/// A cgroup's number and depth, as the kernel's helper counts them.
pub(super) struct Place {
    /// The cgroup's id: the inode number of its directory.
    pub id: u64,
    /// Its depth; the root's is 0.
    pub level: u32,
}

impl Place {
    /// Finds the cgroup at `path`.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let none = || EnforceError::NoCgroup(path.to_owned());
        if !sees_the_whole_tree() {
            return Err(EnforceError::CgroupNamespace);
        }
        let path = path.canonicalize().map_err(|_| none())?;
        let root = mount_point().ok_or_else(none)?;
        let below = path.strip_prefix(&root).map_err(|_| none())?;
        let level = below.components().count() as u32;
        if level == 0 || !path.join("cgroup.procs").is_file() {
            return Err(none());
        }
        let id = fs::metadata(&path).map_err(EnforceError::io("inspect", &path))?.ino();
        Ok(Self { id, level })
    }
}

/// Whether process `pid` is in the cgroup itself.
pub(super) fn holds(path: &Path, pid: u32) -> Result<bool> {
    let list = path.join("cgroup.procs");
    let processes = fs::read_to_string(&list).map_err(EnforceError::io("read", &list))?;
    Ok(processes.lines().any(|line| line.parse() == Ok(pid)))
}

/// Whether the cgroup or one below it has processes. What can't be read is taken to have some.
pub(super) fn is_populated(path: &Path) -> bool {
    match fs::read_to_string(path.join("cgroup.events")) {
        Ok(events) => !events.lines().any(|line| line == "populated 0"),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// The same by the cgroup's id; a cgroup that is gone has none.
pub(super) fn is_populated_by_id(id: u64) -> bool {
    let Some(root) = mount_point() else { return true };
    find(&root, id, 0).is_some_and(|path| is_populated(&path))
}

fn find(directory: &Path, id: u64, depth: u32) -> Option<PathBuf> {
    if fs::metadata(directory).ok()?.ino() == id {
        return Some(directory.to_owned());
    }
    if depth > 32 {
        return None;
    }
    fs::read_dir(directory)
        .ok()?
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| find(&entry.path(), id, depth + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_cgroup_namespace_has_another_number() {
        let inside = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--cgroup", "stat", "-L", "-c", "%i", "/proc/self/ns/cgroup"])
            .output()
            .unwrap();
        let number: u64 = String::from_utf8(inside.stdout).unwrap().trim().parse().unwrap();
        assert_ne!(number, INITIAL_NAMESPACE);
        let own = fs::metadata("/proc/self/ns/cgroup").unwrap().ino();
        assert_eq!(sees_the_whole_tree(), own == INITIAL_NAMESPACE);
    }
}
