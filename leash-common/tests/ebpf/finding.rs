//! `mounts.rs` and `session.rs`: a session's root, its mounts, and whose a task is.

use leash_common::session::{ACTIVE, AMBIGUOUS_MOUNT, ARMING, FREE, MountKey, filter_bit};

use crate::fixture::{below, dentry, mount, set, structure};
use crate::kernel::{member, set_cgroups, set_task};
use crate::maps::{CGROUPS, CONFIG, MOUNTS, SESSIONS};
use crate::mounts::leash_activate;
use crate::session::{begin, governed, governed_or_arming, has_begun};

const SLOT: u32 = 5;

fn state(state: u32) {
    // SAFETY: an element of the map.
    unsafe { (*SESSIONS.get_ptr_mut(SLOT).unwrap()).state = state };
}

/// Makes a task with this root the current one, and its session active.
fn activate(mnt: u64, root: u64) {
    let (task, fs) = (structure(), structure());
    set(member!(task, task_fs), fs);
    set(member!(fs, fs_root_mnt), mnt);
    set(member!(fs, fs_root_dentry), root);
    set_task(task);
    state(ARMING);
    assert_eq!(leash_activate(SLOT), 1);
}

fn mount_of(dentry: u64) -> Option<u64> {
    // SAFETY: a number that is copied at once.
    unsafe { MOUNTS.get(MountKey { slot: SLOT.into(), dentry }) }.copied()
}

#[test]
fn every_mount_of_the_tree_is_found() {
    let root = dentry(None, b"/");
    let top = mount(root, None);
    let disks: Vec<u64> = (0..5).map(|_| dentry(None, b"/")).collect();
    let home = mount(disks[0], Some((top, below(root, &["home"]))));
    let deep = mount(disks[1], Some((home, below(disks[0], &["deep"]))));
    let tmp = mount(disks[2], Some((top, below(root, &["tmp"]))));
    let last = mount(disks[3], Some((deep, below(disks[1], &["last"]))));
    mount(disks[4], None);
    activate(top, root);
    let session = SESSIONS.get(SLOT).unwrap();
    assert_eq!((session.state, session.root_mnt, session.root_dentry), (ACTIVE, top, root));
    let found = [root, disks[0], disks[1], disks[2], disks[3], disks[4]].map(mount_of);
    assert_eq!(found, [Some(top), Some(home), Some(deep), Some(tmp), Some(last), None]);
    // Only what is being set up is activated.
    assert_eq!(leash_activate(SLOT), 0);
}

#[test]
fn what_is_mounted_in_two_places_has_no_one_mount() {
    let root = dentry(None, b"/");
    let top = mount(root, None);
    let disk = dentry(None, b"/");
    for place in ["one", "other"] {
        mount(disk, Some((top, below(root, &[place]))));
    }
    activate(top, root);
    assert_eq!((mount_of(root), mount_of(disk)), (Some(top), Some(AMBIGUOUS_MOUNT)));
}

#[test]
fn a_directory_bound_over_itself_is_still_one_place() {
    let root = dentry(None, b"/");
    let top = mount(root, None);
    let disk = dentry(None, b"/");
    let place = below(root, &["disk"]);
    let first = mount(disk, Some((top, place)));
    let second = mount(disk, Some((first, disk)));
    activate(top, root);
    assert!([Some(first), Some(second)].contains(&mount_of(disk)));
}

#[test]
fn a_tasks_session_is_that_of_the_cgroup_that_it_is_in_or_below() {
    let config = CONFIG.get_ptr_mut(0).unwrap();
    CGROUPS.insert(40, SLOT, 0).unwrap();
    // SAFETY: an element of the map.
    unsafe {
        ((*config).level_count, (*config).levels[0], (*config).levels[1]) = (2, 1, 2);
        for id in [40, 41] {
            (*config).filter[filter_bit(id) as usize / 64] |= 1 << (filter_bit(id) % 64);
        }
    }
    let cases: [(&[u64], bool); 6] = [
        (&[1, 2, 40], true),
        (&[1, 40], true),
        (&[1, 40, 9, 9], true),
        (&[1, 2, 3, 40], false), // no session is so deep
        (&[1, 2, 41], false),    // in the filter by chance
        (&[1], false),
    ];
    for (cgroups, inside) in cases {
        set_cgroups(cgroups);
        for (now, counts) in [(FREE, [false; 2]), (ARMING, [false, true]), (ACTIVE, [true; 2])] {
            state(now);
            let expected = counts.map(|counts| (counts && inside).then_some(SLOT));
            assert_eq!([governed(), governed_or_arming()], expected, "{cgroups:?} {now}");
        }
    }
}

#[test]
fn a_session_begins_once() {
    assert!(!has_begun(SLOT));
    begin(SLOT);
    assert!(has_begun(SLOT));
}
