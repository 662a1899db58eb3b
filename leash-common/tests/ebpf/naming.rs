//! `walk.rs`: from an object to its path.

use leash_common::event::Cause;
use leash_common::session::{AMBIGUOUS_MOUNT, MountKey};
use leash_common::table::MAX_PATH_BYTES;

use crate::fixture::{below, dentry, mount};
use crate::kernel::set_renames;
use crate::maps::{MOUNTS, SESSIONS};
use crate::scratch::claim;
use crate::walk::leash_walk;

const SLOT: u32 = 3;

/// A session with this root.
fn session(root_mnt: u64, root_dentry: u64) {
    let session = SESSIONS.get_ptr_mut(SLOT).unwrap();
    // SAFETY: an element of the map.
    unsafe { ((*session).root_mnt, (*session).root_dentry) = (root_mnt, root_dentry) };
}

/// The path of an object in either area, or why there is none.
fn path(mnt: u64, dentry: u64) -> Result<String, u32> {
    let paths = [0, 1].map(|area| {
        let claim = claim(SLOT).unwrap();
        claim.object(area, mnt, dentry);
        let cause = leash_walk(claim.index, area as u32);
        // SAFETY: claimed.
        let (start, bytes) = unsafe { ((*claim.memory).start[area], (*claim.memory).area[area].path) };
        // SAFETY: as before.
        assert_eq!(unsafe { (*claim.memory).cause[area] }, cause);
        claim.release();
        if cause == 0 { Ok(String::from_utf8(bytes[start as usize..].to_vec()).unwrap()) } else { Err(cause) }
    });
    let [first, second] = paths;
    assert_eq!(first, second);
    first
}

#[test]
fn names_of_every_length_are_copied_whole() {
    let root = dentry(None, b"/");
    let top = mount(root, None);
    session(top, root);
    for length in 1..=255 {
        let name: String = ('a'..='z').cycle().take(length).collect();
        let object = below(root, &["before", &name, "after"]);
        assert_eq!(path(top, object), Ok(format!("/before/{name}/after")));
    }
}

#[test]
fn paths_lead_through_mounts_to_exactly_the_root() {
    let root = dentry(None, b"/");
    let outer = mount(root, None);
    let home = below(root, &["srv", "home"]);
    let disk = dentry(None, b"/");
    let inner = mount(disk, Some((outer, home)));
    let object = below(disk, &["a", "key"]);
    session(outer, root);
    assert_eq!(path(inner, object), Ok("/srv/home/a/key".into()));
    assert_eq!(path(inner, disk), Ok("/srv/home".into()));
    assert_eq!(path(outer, home), Ok("/srv/home".into()));
    assert_eq!(path(outer, root), Ok("/".into()));
    // From a root further down, what lies beside it has no path.
    session(outer, home);
    assert_eq!(path(outer, below(home, &["x"])), Ok("/x".into()));
    assert_eq!(path(outer, below(root, &["x"])), Err(Cause::Unreachable as u32));
    // A mount of another tree has none either.
    assert_eq!(path(mount(root, None), below(home, &["x"])), Err(Cause::Unreachable as u32));
}

#[test]
fn objects_without_a_mount_are_found_by_their_file_systems_root() {
    let root = dentry(None, b"/");
    let top = mount(root, None);
    let disk = dentry(None, b"/");
    let inner = mount(disk, Some((top, below(root, &["disk"]))));
    session(top, root);
    let object = below(disk, &["key"]);
    assert_eq!(path(0, object), Err(Cause::Unreachable as u32));
    let key = |dentry| MountKey { slot: SLOT.into(), dentry };
    MOUNTS.insert(key(root), top, 0).unwrap();
    MOUNTS.insert(key(disk), inner, 0).unwrap();
    assert_eq!(path(0, object), Ok("/disk/key".into()));
    assert_eq!(path(0, root), Ok("/".into()));
    MOUNTS.insert(key(disk), AMBIGUOUS_MOUNT, 0).unwrap();
    assert_eq!(path(0, object), Err(Cause::Unreachable as u32));
    assert_eq!(path(inner, object), Ok("/disk/key".into()));
}

#[test]
fn the_longest_path_ends_where_the_kernels_does() {
    let root = dentry(None, b"/");
    let top = mount(root, None);
    session(top, root);
    let deep = (0..15).fold(root, |parent, _| dentry(Some(parent), &[b'd'; 255]));
    // 15 names with their slashes, and one more of this many bytes with its own.
    let last = MAX_PATH_BYTES - 1 - 15 * 256 - 1;
    assert_eq!(path(top, dentry(Some(deep), &vec![b'e'; last])).map(|path| path.len()), Ok(MAX_PATH_BYTES - 1));
    assert_eq!(path(top, dentry(Some(deep), &vec![b'e'; last + 1])), Err(Cause::TooLong as u32));
}

#[test]
fn what_is_renamed_all_the_time_has_no_path() {
    let root = dentry(None, b"/");
    let top = mount(root, None);
    session(top, root);
    let object = below(root, &["key"]);
    set_renames(7);
    assert_eq!(path(top, object), Err(Cause::Renamed as u32));
    set_renames(8);
    assert_eq!(path(top, object), Ok("/key".into()));
}

#[test]
fn entries_that_are_no_names_have_no_path() {
    let root = dentry(None, b"/");
    let top = mount(root, None);
    session(top, root);
    assert_eq!(path(top, dentry(Some(root), b"")), Err(Cause::Unreachable as u32));
    assert_eq!(path(top, dentry(Some(root), &[b'x'; 256])), Err(Cause::Unreachable as u32));
    assert_eq!(path(top, 0), Err(Cause::Unreachable as u32));
}
