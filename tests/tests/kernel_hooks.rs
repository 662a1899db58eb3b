//! Every hook, by every call that reaches it: without Leash the call succeeds; in a session it fails with `EACCES` where the policy
//! forbids it, and the record names action, resource, policy, process and program; its twin succeeds where the policy permits it,
//! and has its record too. In record mode nothing is denied, and the records say what enforce would have answered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use leash_tests::attempt::Attempt;
use leash_tests::case::{self, NETWORK_POLICY};
use leash_tests::cases::hooks;
use leash_tests::disk::Disk;
use leash_tests::{ground, hook};
use std::fs;

const ENOSYS: i32 = 38;

#[test]
fn files_and_programs() {
    ground::ready();
    hook::prove(hooks::FILES, &case::file_policy);
}

#[test]
fn sockets() {
    ground::peers();
    hook::prove(hooks::SOCKETS, &|_| NETWORK_POLICY.to_owned());
}

#[test]
fn extended_attributes() {
    ground::ready();
    // Before 6.6 tmpfs has none. And these hooks see no mount: that of a disk inside the workspace has to be found.
    let _disks = ["/w/write-deny", "/w/write-ok"].map(Disk::mount);
    hook::prove(hooks::ATTRIBUTES, &case::file_policy);
}

#[test]
fn changing_the_mode_by_the_newest_call() {
    ground::ready();
    if ground::kernel() == "6.1" {
        fs::write("/w/plain", "").unwrap();
        let outcome = ground::ungoverned(&[Attempt::new("absent", "fchmodat2 AT_FDCWD /w/plain 0o600")]);
        assert_eq!(outcome[0].errno, ENOSYS, "{outcome:?}");
        return;
    }
    hook::prove(hooks::FCHMODAT2, &case::file_policy);
}
