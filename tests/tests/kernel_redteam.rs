//! The ways out that a governed agent will try, each three times: without Leash it succeeds; in a session it fails where the policy
//! forbids it, with errno and record; its twin succeeds where the policy permits it. In record mode all of it succeeds, and the
//! records say what enforce would have answered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use leash_tests::attempt::Attempt;
use leash_tests::case::{self, Case, NETWORK_POLICY, Variant};
use leash_tests::cases::{files, network, programs};
use leash_tests::disk::{Disk, Overlay};
use leash_tests::session::{EACCES, Plan};
use leash_tests::{ground, user};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// `open_by_handle_at(2)`; sockets that see packets.
const OF_ROOT: [&str; 7] = ["by-handle", "packet-raw", "packet-dgram", "raw4", "raw-any", "raw-tcp", "raw6"];

/// By itself, too, such a case takes root.
fn takes_root(case: &Case) -> bool {
    // Since Linux 6.10 the empty path is anybody's whose descriptor it is, before it took CAP_DAC_READ_SEARCH: linkat(2).
    OF_ROOT.contains(&case.name) || (case.name == "link-empty-path" && ground::kernel() == "6.1")
}

fn prove(cases: &[Case], policy: &str) {
    let is_tried = |case: &&Case| user::ordinary().is_none() || !takes_root(case);
    case::prove(&cases.iter().filter(is_tried).copied().collect::<Vec<_>>(), policy, None);
}

/// What ordinary users don't try is what is named here, and nothing else.
#[test]
fn the_cases_that_take_root_are_known() {
    let tables = [files::NAMES, files::STRANGE, files::MOVES, files::CHANGES, programs::PROGRAMS];
    let networks = [network::ADDRESSES, network::FAMILIES, network::UNIX];
    let all = tables.into_iter().chain(networks).flatten();
    let names: BTreeSet<&str> = all.filter(|case| takes_root(case)).map(|case| case.name).collect();
    assert_eq!(names.len(), OF_ROOT.len() + usize::from(ground::kernel() == "6.1"), "{names:?}");
}

fn prove_files(cases: &[Case]) {
    ground::ready();
    prove(cases, &case::file_policy(cases));
}

#[test]
fn other_names_lead_to_the_same_file() {
    prove_files(files::NAMES);
}

#[test]
fn strange_names_are_decided_or_denied() {
    prove_files(files::STRANGE);
}

#[test]
fn what_is_moved_or_linked_stays_denied() {
    prove_files(files::MOVES);
}

#[test]
fn every_change_is_asked() {
    prove_files(files::CHANGES);
}

#[test]
fn extended_attributes_are_asked() {
    ground::ready();
    // Before 6.6 tmpfs has none.
    let _disks = ["/w/write-deny", "/w/write-ok"].map(Disk::mount);
    prove_files(files::USER_ATTRIBUTES);
}

#[test]
fn the_container_keeps_what_paths_mean() {
    prove_files(files::MOUNTS);
}

#[test]
fn programs_run_by_no_other_door() {
    prove_files(programs::PROGRAMS);
}

#[test]
fn addresses_are_what_the_kernel_makes_of_them() {
    ground::peers();
    prove(network::ADDRESSES, NETWORK_POLICY);
}

/// Everything that leaves this machine for itself from here on.
struct Wire(OwnedFd);

impl Wire {
    fn tap() -> Self {
        Self(socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll).unwrap())
    }

    /// The denied addresses that packets went to.
    fn denied(&self) -> BTreeSet<IpAddr> {
        let mut packet = [0; 2048];
        let mut seen = BTreeSet::new();
        while let Ok(length) = recv(self.0.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            let to: IpAddr = match packet[0] >> 4 {
                4 if length >= 20 => <[u8; 4]>::try_from(&packet[16..20]).unwrap().into(),
                6 if length >= 40 => <[u8; 16]>::try_from(&packet[24..40]).unwrap().into(),
                _ => continue,
            };
            if [ground::IPV4_DENIED, ground::IPV6_DENIED].contains(&to.to_string().as_str()) {
                seen.insert(to);
            }
        }
        seen
    }
}

/// A source route sends packets to another address than the one that is named.
#[test]
fn routes_lead_nowhere() {
    ground::peers();
    prove(network::ROUTES, NETWORK_POLICY);
    let attempts: Vec<Attempt> = network::ROUTES.iter().map(|case| case.attempt(Variant::Deny)).collect();
    let wire = Wire::tap();
    ground::ungoverned(&attempts);
    assert_eq!(wire.denied().len(), 2, "a route without Leash leads to neither address");
    Plan::new(NETWORK_POLICY).perform(&attempts, false);
    assert_eq!(wire.denied(), BTreeSet::new());
}

/// Options and control data that name no address are anybody's: `IP_TTL`, `IPV6_UNICAST_HOPS`, `IP_TOS`, a hop limit.
#[test]
fn other_options_of_sockets_are_not_asked() {
    ground::peers();
    let scripts = [
        "s = socket inet SOCK_DGRAM; option $s 0 2 %40%00%00%00; sendmsg-control $s in:10.99.0.1:7099 hi 0 0 1 %08%00%00%00",
        "s = socket inet6 SOCK_DGRAM; option $s 41 16 %40%00%00%00; sendmsg-control $s in6:[fd99::1]:7099 hi 0 41 52 %40%00%00%00",
    ];
    let attempts = scripts.map(|script| Attempt::new(script, script));
    let (run, outcomes) = Plan::new(NETWORK_POLICY).perform(&attempts, false);
    assert!(outcomes.iter().all(|outcome| outcome.ok), "{outcomes:?}");
    assert_eq!(run.totals("deny")[0], 0, "{}", run.denials_text());
}

/// A pair of sockets is asked by its family, as a socket is, though no family but Unix gives one here; and no socket becomes one of another
/// kind by `TCP_ULP`.
#[test]
fn pairs_are_asked_and_sockets_stay_what_they_are() {
    const EPERM: i32 = 1;
    const EOPNOTSUPP: i32 = 95;
    ground::ready();
    let scripts = [
        ("pair", "pair netlink SOCK_RAW 16"),
        ("unix", "pair unix SOCK_STREAM 0"),
        ("smc", "s = socket inet SOCK_STREAM; option $s 6 31 smc"),
        ("nodelay", "s = socket inet SOCK_STREAM; option $s 6 1 %01%00%00%00"),
    ];
    let attempts = scripts.map(|(name, script)| Attempt::new(name, script));
    let errnos = |outcomes: &[leash_tests::attempt::Outcome]| outcomes.iter().map(|outcome| outcome.errno).collect::<Vec<_>>();
    let alone = errnos(&ground::ungoverned(&attempts));
    assert_eq!((alone[0], alone[1], alone[3]), (EOPNOTSUPP, 0, 0), "{alone:?}");
    assert_ne!(alone[2], EPERM, "the option is refused without Leash, too");
    let (run, outcomes) = Plan::new(NETWORK_POLICY).perform(&attempts, false);
    assert_eq!(errnos(&outcomes), [EACCES, 0, EPERM, 0], "{outcomes:?}");
    let denials: Vec<_> = run.events.iter().filter(|event| event.action == "SocketCreate" && event.verdict == "deny").collect();
    assert!(denials.len() == 1 && denials[0].policies == ["no-sockets"] && denials[0].errno == EACCES, "{denials:?}");
    let (_, permitted) = Plan::new("permit(principal, action, resource);").perform(&attempts, false);
    assert_eq!(errnos(&permitted), [EOPNOTSUPP, 0, EPERM, 0], "{permitted:?}");
}

#[test]
fn unusual_sockets_are_asked() {
    ground::ready();
    prove(network::FAMILIES, NETWORK_POLICY);
}

#[test]
fn unix_sockets_are_known_by_where_they_are_bound() {
    ground::peers();
    prove(network::UNIX, NETWORK_POLICY);
}

/// Red-team 7: a directory's name is no prefix of its neighbour's, a file's none of a longer one's.
#[test]
fn names_are_no_prefixes() {
    ground::ready();
    let root = ground::fresh("/w/prefix");
    for directory in ["deny", "denylist", "den", "Deny"] {
        fs::create_dir(root.join(directory)).unwrap();
        fs::write(root.join(directory).join("key"), "SECRET").unwrap();
    }
    for file in ["a", "abc", "ab", "A"] {
        fs::write(root.join(file), "SECRET").unwrap();
    }
    let policy = r#"
@id("all") permit(principal, action, resource);
@id("directory") @reason("closed") forbid(principal, action == Action::"FileRead", resource in Dir::"/w/prefix/deny");
@id("file") @reason("closed") forbid(principal, action == Action::"FileRead", resource == File::"/w/prefix/a");
"#;
    let expected = [
        ("deny/key", EACCES),
        ("denylist/key", 0),
        ("den/key", 0),
        ("Deny/key", 0),
        ("a", EACCES),
        ("abc", 0),
        ("ab", 0),
        ("A", 0),
    ];
    let attempts: Vec<Attempt> = expected.iter().map(|(name, _)| Attempt::new(*name, format!("cat /w/prefix/{name}"))).collect();
    assert!(ground::ungoverned(&attempts).iter().all(|outcome| outcome.ok));
    let (run, outcomes) = Plan::new(policy).perform(&attempts, false);
    for ((name, errno), outcome) in expected.iter().zip(outcomes) {
        assert_eq!(outcome.errno, *errno, "{name}: {outcome:?}");
        let denials = run.denials("FileRead", &format!("/w/prefix/{name}")).count();
        assert_eq!(denials, usize::from(*errno != 0), "{name}:\n{}", run.denials_text());
    }
}

/// What no policy permits is denied, and the record says that none did.
#[test]
fn what_nothing_permits_is_denied() {
    ground::ready();
    let root = ground::fresh("/w/default");
    fs::create_dir(root.join("in")).unwrap();
    for name in ["in/key", "out"] {
        fs::write(root.join(name), "SECRET").unwrap();
    }
    let policy = r#"
@id("most") permit(principal, action in [Action::"FileOpen", Action::"DirList", Action::"ProcessExec"], resource)
unless { resource in Dir::"/w/default/in" };
"#;
    let attempts = [("in/key", EACCES), ("out", 0)];
    let scripts: Vec<Attempt> = attempts.iter().map(|(name, _)| Attempt::new(*name, format!("cat /w/default/{name}"))).collect();
    assert!(ground::ungoverned(&scripts).iter().all(|outcome| outcome.ok));
    let (run, outcomes) = Plan::new(policy).perform(&scripts, false);
    assert_eq!(outcomes.iter().map(|outcome| outcome.errno).collect::<Vec<_>>(), attempts.map(|(_, errno)| errno));
    let denial = run.denials("FileRead", "/w/default/in/key").next().expect("a record");
    assert_eq!((denial.errno, denial.policies.len()), (EACCES, 0));
}

/// Running a program asks whether it may be run, not whether it may be read.
#[test]
fn running_is_not_reading() {
    ground::ready();
    let root = ground::fresh("/w/run");
    // A static program: a dynamic one is read by its loader.
    fs::copy("/bin/busybox", root.join("busybox")).unwrap();
    let policy = r#"
@id("all") permit(principal, action, resource);
@id("no-read") @reason("not to be read") forbid(principal, action == Action::"FileRead", resource in Dir::"/w/run");
"#;
    let attempts = [Attempt::new("run", "exec /w/run/busybox true"), Attempt::new("read", "cat /w/run/busybox")];
    assert!(ground::ungoverned(&attempts).iter().all(|outcome| outcome.ok));
    let (run, outcomes) = Plan::new(policy).perform(&attempts, false);
    assert!(outcomes[0].ok, "{:?}\n{}", outcomes[0], run.denials_text());
    assert_eq!(outcomes[1].errno, EACCES);
    assert_eq!(run.denials("FileRead", "/w/run/busybox").count(), 1);
}

/// A copy of a denied program is one more program that nothing permits.
#[test]
fn only_listed_programs_run() {
    ground::ready();
    let root = ground::fresh("/w/listed");
    fs::copy(ground::ATTEMPT, root.join("prog")).unwrap();
    let policy = r#"
@id("files") permit(principal, action in [Action::"FileOpen", Action::"FileModify", Action::"DirList"], resource);
@id("system") permit(principal, action == Action::"ProcessExec", resource in Dir::"/usr");
@id("attempt") permit(principal, action == Action::"ProcessExec", resource == File::"/w/bin/attempt");
"#;
    let attempts = [
        Attempt::new("copy", "copy /w/listed/prog /w/listed/copy; exec /w/listed/copy say"),
        Attempt::new("cp", "exec /bin/cp /w/listed/prog /w/listed/cp; exec /w/listed/cp say"),
        Attempt::new("link", "link /w/bin/attempt /w/listed/link; exec /w/listed/link say"),
        Attempt::new("twin", "exec /bin/true; exec /w/bin/attempt say"),
    ];
    assert!(ground::ungoverned(&attempts).iter().all(|outcome| outcome.ok));
    fs::remove_file(root.join("link")).unwrap();
    let (run, outcomes) = Plan::new(policy).perform(&attempts, false);
    for (outcome, path) in outcomes.iter().zip(["copy", "cp", "link"]) {
        assert_eq!(outcome.errno, EACCES, "{outcome:?}\n{}", run.denials_text());
        let path = format!("/w/listed/{path}");
        let denial =
            run.denials("ProcessExec", &path).next().unwrap_or_else(|| panic!("no record of {path}\n{}", run.denials_text()));
        assert!(denial.policies.is_empty());
    }
    assert!(outcomes[3].ok, "{:?}\n{}", outcomes[3], run.denials_text());
}

/// On an overlay the kernel opens, copies and changes the files of its layers on the task's behalf. The session is asked about the
/// overlay's names, once, and never about the layers'.
#[test]
fn an_overlay_is_asked_by_its_own_names() {
    ground::ready();
    // A session changes it; the next one finds it as it was.
    let overlay = || {
        Overlay::mount("/w/over", |lower| {
            for name in ["write", "attributes", "gone"] {
                fs::write(lower.join(name), "text").unwrap();
            }
            fs::copy(ground::ATTEMPT, lower.join("prog")).unwrap();
            fs::create_dir(lower.join("made")).unwrap();
        })
    };
    let scripts = [
        // The copy that a first write makes, then the file itself.
        ("write", "f = open /w/over/write O_RDWR; write $f #", "FileWrite", "/w/over/write"),
        ("times", "touch-now /w/over/attributes", "FileSetAttributes", "/w/over/attributes"),
        ("mode", "chmod /w/over/attributes 0o600", "FileSetAttributes", "/w/over/attributes"),
        ("remove", "rmdir /w/over/made", "FileDelete", "/w/over/made"),
        ("make", "mkdir /w/over/new", "FileCreate", "/w/over/new"),
        ("move", "make-file /w/over/one x; rename /w/over/one /w/over/two", "FileCreate", "/w/over/one"),
        ("delete", "unlink /w/over/gone", "FileDelete", "/w/over/gone"),
        ("map", "f = open /w/over/prog O_RDONLY; mmap $f PROT_READ|PROT_EXEC", "ProcessExec", "/w/over/prog"),
        ("run", "exec /w/over/prog say", "ProcessExec", "/w/over/prog"),
    ];
    let attempts: Vec<Attempt> = scripts.iter().map(|(name, script, ..)| Attempt::new(*name, *script)).collect();
    let policy = |effect: &str| {
        format!(
            r#"
@id("all") permit(principal, action, resource);
@id("over") @reason("closed")
{effect}(principal, action in [Action::"FileModify", Action::"ProcessExec"], resource in Dir::"/w/over");
"#
        )
    };
    let alone = {
        let _overlay = overlay();
        ground::ungoverned(&attempts)
    };
    assert!(alone.iter().all(|outcome| outcome.ok), "{alone:?}");
    let mut wrong = Vec::new();
    {
        let _overlay = overlay();
        let (run, outcomes) = Plan::new(&policy("forbid")).perform(&attempts, false);
        for (outcome, (_, _, action, resource)) in outcomes.iter().zip(&scripts) {
            let recorded = run.denials(action, resource).any(|event| event.policies == ["over"] && event.errno == EACCES);
            if outcome.errno != EACCES || !recorded {
                let events = run.events.iter().filter(|event| event.action == *action);
                let events: Vec<_> = events.map(|event| (event.resource.words(), &event.policies, event.errno)).collect();
                wrong.push(format!("forbidden: recorded {recorded}: {outcome:?}\n  {action}: {events:?}"));
            }
        }
    }
    let _overlay = overlay();
    let (run, outcomes) = Plan::new(&policy("permit")).perform(&attempts, false);
    wrong.extend(outcomes.iter().filter(|outcome| !outcome.ok).map(|outcome| format!("permitted: {outcome:?}")));
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), run.denials_text());
    assert_eq!(run.totals("deny")[0], 0, "{}", run.denials_text());
    let layers = run.events.iter().filter(|event| event.action.starts_with("File") && !event.resource.words().starts_with('/'));
    let layers: Vec<_> = layers.map(|event| (event.action.as_str(), event.resource.words())).collect();
    assert!(layers.is_empty(), "the layers were asked about: {layers:?}");
}

/// From 6.5 on a mapping of an overlay's file belongs to the file below, which has no path in the session. It is asked by the name
/// that was mapped all the same.
#[test]
fn a_mapping_of_an_overlay_is_asked_by_the_overlay_s_name() {
    ground::ready();
    let _overlay = Overlay::mount("/w/mapped", |lower| {
        fs::copy(ground::ATTEMPT, lower.join("prog")).unwrap();
    });
    let attempts = [
        Attempt::new("protect", "f = open /w/mapped/prog O_RDONLY; mmap-mprotect $f"),
        Attempt::new("map", "f = open /w/mapped/prog O_RDONLY; mmap $f PROT_READ|PROT_EXEC"),
    ];
    assert!(ground::ungoverned(&attempts).iter().all(|outcome| outcome.ok));
    let permit = "permit(principal, action, resource);";
    let forbid = r#"@id("mapped") forbid(principal, action == Action::"ProcessExec", resource == File::"/w/mapped/prog");"#;
    let (forbidden, kept_out) = Plan::new(&format!("{permit} {forbid}")).perform(&attempts, false);
    let (permitted, let_in) = Plan::new(permit).perform(&attempts, false);
    assert!(kept_out.iter().all(|outcome| outcome.errno == EACCES), "{kept_out:?}");
    let denials = forbidden.denials("ProcessExec", "/w/mapped/prog").filter(|event| event.policies == ["mapped"]);
    assert_eq!(denials.count(), 2, "{}", forbidden.denials_text());
    assert!(let_in.iter().all(|outcome| outcome.ok), "{let_in:?}");
    assert_eq!(permitted.totals("deny")[0], 0, "{}", permitted.denials_text());
}
