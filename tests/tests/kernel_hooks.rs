//! Every hook, by every call that reaches it: without Leash the call succeeds; in a session it fails with `EACCES` where the policy
//! forbids it, and the record names action, resource, policy, process and program; its twin succeeds where the policy permits it,
//! and has its record too. In record mode nothing is denied, and the records say what enforce would have answered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use leash_tests::attempt::Attempt;
use leash_tests::case::{self, NETWORK_POLICY};
use leash_tests::cases::{hooks, ledger};
use leash_tests::disk::Disk;
use leash_tests::session::{EACCES, Event, Plan};
use leash_tests::{ground, hook};
use std::fs;
use std::path::Path;

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

/// A kernel's next hook must not be the next way out: each one is known, with what answers there.
#[test]
fn every_hook_of_the_running_kernel_is_in_the_ledger() {
    let kernel = ground::kernel();
    let (major, minor) = kernel.split_once('.').unwrap();
    let version = (major.parse().unwrap(), minor.parse().unwrap());
    assert_eq!(ledger::judge(&ledger::of_running_kernel(), version), [""; 0]);
}

/// Hooks that see no mount find what is mounted in a mount by its path. What is mounted in two places has no path for them; those
/// that see the mount know which place is meant, and so does the supervisor.
#[test]
fn mounts_in_mounts() {
    ground::ready();
    let _outer = Disk::mount("/w/disks");
    let _inner = Disk::mount("/w/disks/in");
    let twice = Disk::mount("/w/disks/twice");
    let _again = twice.again("/w/disks/again");
    for file in ["in/closed", "in/open", "twice/file"] {
        fs::write(Path::new("/w/disks").join(file), "text").unwrap();
    }
    let policy = r#"
@id("all") permit(principal, action, resource);
@id("closed") @reason("closed") forbid(principal, action == Action::"FileSetAttributes", resource == File::"/w/disks/in/closed");
"#;
    let scripts = [
        "touch-now /w/disks/in/closed",
        "touch-now /w/disks/in/open",
        "touch-now /w/disks/twice/file",
        "chmod /w/disks/twice/file 0o600",
        "chmod /w/disks/again/file 0o644",
    ];
    let attempts = scripts.map(|script| Attempt::new(script, script));
    assert!(ground::ungoverned(&attempts).iter().all(|outcome| outcome.ok));
    let (run, outcomes) = Plan::new(policy).perform(&attempts, false);
    let sees_mounts = run.start["backend"] == "supervised";
    let errors = outcomes.iter().map(|outcome| outcome.errno).collect::<Vec<_>>();
    assert_eq!(errors, [EACCES, 0, if sees_mounts { 0 } else { EACCES }, 0, 0], "{outcomes:?}");
    let denials: Vec<_> = run.events.iter().filter(|event| event.verdict == "deny").collect();
    let [by_policy, without_path @ ..] = &denials[..] else { panic!("{}", run.denials_text()) };
    assert_eq!(
        (by_policy.resource.words().as_str(), &by_policy.policies[..]),
        ("/w/disks/in/closed", &["closed".to_owned()][..])
    );
    assert_eq!(without_path.len(), usize::from(!sees_mounts), "{without_path:?}");
    let names_cause = |event: &&Event| event.reason.as_ref().is_some_and(|reason| reason.contains("no path under"));
    assert!(without_path.iter().all(names_cause), "{without_path:?}");
    let allowed = |event: &&Event| event.verdict == "allow" && event.action == "FileSetAttributes";
    let allowed: Vec<_> = run.events.iter().filter(allowed).map(|event| event.resource.words()).collect();
    let twice = vec!["/w/disks/twice/file"; if sees_mounts { 2 } else { 1 }];
    assert_eq!(allowed, [&["/w/disks/in/open"][..], &twice, &["/w/disks/again/file"]].concat());
}
