//! Tables of attempts, and what proves that one is stopped.
//!
//! A case's script speaks of places that are denied in one run and permitted in its twin, so both are the same lines:
//!
//! | placeholder | in the denied run |
//! |---|---|
//! | `{D}` `{R}` `{N}` `{X}` `{C}` | a directory where everything, every change, every read, every exec, every write is forbidden |
//! | `{T}` | a tree of which the subdirectory `secret` is forbidden |
//! | `{W}` | a directory where everything is permitted |
//! | `{S}` | a directory with bound sockets, forbidden |
//! | `{4}` `{4DECIMAL}` `{4HEX}` `{6}` | an address to which nothing may go |
//! | `{P}` | a port that is forbidden on loopback |
//! | `{LOOPBACK}` | an address where nothing may listen but on port 0 |
//! | `{NETLINK}` `{NETLINK_NAME}` | a netlink protocol that is forbidden, and what policies call it |
//! | `{L}` | a name of 200 bytes |

use crate::attempt::{Attempt, Outcome};
use crate::ground::{self, IPV4_DENIED, IPV4_OK, IPV6_DENIED, IPV6_OK};
use crate::session::{EACCES, Event, Plan, Run};
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

const EPERM: i32 = 1;

/// One way out.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Number in the red-team list.
    pub item: u8,
    /// Unique.
    pub name: &'static str,
    /// Statements performed without Leash first, in both variants; empty for none.
    pub setup: &'static str,
    /// The attempt.
    pub script: &'static str,
    /// What stops it.
    pub stopped: Stopped,
}

/// What stops an attempt, and what the log then says.
#[derive(Clone, Copy, Debug)]
pub enum Stopped {
    /// A policy: action, resource (its beginning, where it ends in `*`), policy id.
    Policy(&'static str, &'static str, &'static str),
    /// No policy permits it: action, resource.
    NoPermit(&'static str, &'static str),
    /// The kernel side, for a reason of its own: action, resource, a part of the reason's words.
    Reason {
        /// The action.
        action: &'static str,
        /// The resource.
        resource: &'static str,
        /// Part of the reason.
        words: &'static str,
        /// Whether nobody in a session may do this, so that there is no twin.
        always: bool,
    },
    /// The container, with one of these errors, before any question is asked. There is no twin: nobody in a session may.
    Container(&'static [i32]),
}

/// Which of a case's runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// `{D}` is denied.
    Deny,
    /// `{D}` is permitted.
    Twin,
}

impl Stopped {
    /// Action and resource of the question.
    fn asked(self) -> Option<(&'static str, &'static str)> {
        match self {
            Stopped::Policy(action, resource, _) | Stopped::NoPermit(action, resource) => Some((action, resource)),
            Stopped::Reason { action, resource, .. } => Some((action, resource)),
            Stopped::Container(_) => None,
        }
    }
}

impl Case {
    /// Whether the case has an allow twin.
    pub fn has_twin(&self) -> bool {
        !matches!(self.stopped, Stopped::Container(_) | Stopped::Reason { always: true, .. })
    }

    /// Fills in the placeholders.
    pub fn fill(&self, text: &str, variant: Variant) -> String {
        let denied = variant == Variant::Deny;
        let side = if denied { "deny" } else { "ok" };
        let root = ground::ROOT;
        let place = |kind: &str| format!("{root}/{kind}{side}/{}", self.name);
        let (four, six) = if denied { (IPV4_DENIED, IPV6_DENIED) } else { (IPV4_OK, IPV6_OK) };
        let four_number = u32::from(four.parse::<std::net::Ipv4Addr>().unwrap());
        text.replace("{D}", &place(""))
            .replace("{R}", &place("write-"))
            .replace("{N}", &place("read-"))
            .replace("{X}", &place("exec-"))
            .replace("{C}", &place("content-"))
            .replace("{T}", &place("tree-"))
            .replace("{W}", &format!("{root}/free/{}-{side}", self.name))
            .replace("{S}", &format!("{root}/{side}/peers"))
            .replace("{SIDE}", side)
            .replace("{P}", &(if denied { ground::PORT_DENIED } else { ground::PORT }).to_string())
            .replace("{LOOPBACK}", if denied { "127.0.0.3" } else { "127.0.0.4" })
            .replace("{NETLINK}", if denied { "NETLINK_KOBJECT_UEVENT" } else { "NETLINK_ROUTE" })
            .replace("{NETLINK_NAME}", if denied { "kobject_uevent" } else { "route" })
            .replace("{L}", &"n".repeat(200))
            .replace("{L50}", &"n".repeat(50))
            .replace("{ACL}", ACL)
            .replace("{ROUTE4}", ROUTE4)
            .replace("{STRICT4}", STRICT4)
            .replace("{SOURCE4}", SOURCE4)
            .replace("{FLOW6}", FLOW6)
            .replace("{HOME6}", HOME6)
            .replace("{ROUTE6}", ROUTE6)
            .replace("{4}", four)
            .replace("{6}", six)
            .replace("{4DECIMAL}", &four_number.to_string())
            .replace("{4HEX}", &format!("{four_number:#x}"))
            .replace("{PORT}", &ground::PORT.to_string())
            .replace("{ATTEMPT}", ground::ATTEMPT)
    }

    /// The attempt, filled in.
    pub fn attempt(&self, variant: Variant) -> Attempt {
        Attempt::new(format!("{}/{variant:?}", self.name), self.fill(self.script, variant))
    }

    /// The action that is denied, unless the container stops the attempt before any question.
    pub fn action(&self) -> Option<&'static str> {
        self.stopped.asked().map(|(action, _)| action)
    }

    /// Whether the event is the record that a run of the case must leave: of the denial with its cause, or of the twin's permit.
    fn is_recorded_by(&self, event: &Event, variant: Variant, mode: &str) -> bool {
        let Some((action, resource)) = self.stopped.asked() else { return false };
        let resource = decode(&self.fill(resource, variant));
        let words = event.resource.words();
        let resource_fits = match resource.strip_suffix('*') {
            Some(start) => words.starts_with(start),
            None => words == resource,
        };
        let decided = match (variant, self.stopped) {
            (Variant::Twin, _) => event.policies == ["all"],
            (_, Stopped::Policy(_, _, policy)) => event.policies == [policy] && event.reason.is_some(),
            (_, Stopped::NoPermit(..)) => event.policies.is_empty(),
            (_, Stopped::Reason { words, .. }) => event.reason.as_ref().is_some_and(|reason| reason.contains(words)),
            (_, Stopped::Container(_)) => false,
        };
        let denied = variant == Variant::Deny;
        decided
            && resource_fits
            && event.action == action
            && event.verdict == if denied { "deny" } else { "allow" }
            && event.errno == if denied && mode == "enforce" { EACCES } else { 0 }
            && event.mode == mode
    }

    fn path(&self, placeholder: &str, variant: Variant) -> PathBuf {
        PathBuf::from(self.fill(placeholder, variant))
    }

    /// Makes the directories that the case speaks of afresh.
    fn plant(&self, variant: Variant) {
        let text = format!("{}{}", self.setup, self.script);
        let secret = format!("SECRET {}\n", self.name);
        if text.contains("{T}") {
            ground::fresh(self.path("{T}", variant));
        }
        for place in ["{D}", "{R}", "{N}", "{X}", "{C}", "{T}/secret"] {
            if !(text.contains(place) || place == "{T}/secret" && text.contains("{T}")) {
                continue;
            }
            let directory = ground::fresh(self.path(place, variant));
            fs::create_dir(directory.join("dir")).unwrap();
            fs::create_dir(directory.join("empty")).unwrap();
            fs::write(directory.join("key"), &secret).unwrap();
            fs::write(directory.join("dir/inner"), &secret).unwrap();
            for (name, source) in [("prog", ground::ATTEMPT), ("lib.so", LIBRARY), ("busybox", "/bin/busybox")] {
                if text.contains(&format!("{place}/{name}")) {
                    fs::copy(source, directory.join(name)).unwrap();
                }
            }
        }
        let moved = self.path("{T}.moved", variant);
        let _ = fs::remove_dir_all(moved);
        let free = ground::fresh(self.path("{W}", variant));
        fs::write(free.join("plain"), "plain\n").unwrap();
        fs::create_dir(free.join("sub")).unwrap();
    }
}

/// An access control list that says what mode 644 says (`linux/posix_acl_xattr.h`).
const ACL: &str = "%02%00%00%00%01%00%06%00%FF%FF%FF%FF%04%00%04%00%FF%FF%FF%FF%20%00%04%00%FF%FF%FF%FF";
/// A loose and a strict source route by 10.99.0.2 (RFC 791), padded.
const ROUTE4: &str = "%83%07%04%0A%63%00%02%00";
const STRICT4: &str = "%89%07%04%0A%63%00%02%00";
/// `struct in_pktinfo` with the source 127.0.0.1 (ip(7)).
const SOURCE4: &str = "%00%00%00%00%7F%00%00%01%00%00%00%00";
/// The routing header of a mobile node by fd99::2 (RFC 6275), the one that a message can carry.
const HOME6: &str = "%00%02%02%01%00%00%00%00%FD%99%00%00%00%00%00%00%00%00%00%00%00%00%00%02";
/// A new flow label's lease for fd99::1 (`struct in6_flowlabel_req`).
const FLOW6: &str = "%FD%99%00%00%00%00%00%00%00%00%00%00%00%00%00%01%00%01%23%45%00%01%01%00%00%00%00%00%00%00%00%00";
/// A segment routing header by fd99::2 (RFC 8754); the kernel fills in the last segment, which is the first.
const ROUTE6: &str =
    "%00%04%04%01%01%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%FD%99%00%00%00%00%00%00%00%00%00%00%00%00%00%02";
/// A library that every program can load.
const LIBRARY: &str = "/lib/x86_64-linux-gnu/libm.so.6";

/// Plants all cases afresh and performs their setup, without Leash.
fn plant(cases: &[Case]) {
    let mut setups = Vec::new();
    for case in cases {
        for variant in [Variant::Deny, Variant::Twin] {
            case.plant(variant);
            if !case.setup.is_empty() {
                setups.push(Attempt::new(case.name, case.fill(case.setup, variant)));
            }
        }
    }
    for outcome in ground::ungoverned(&setups) {
        assert!(outcome.ok, "setup of {}: {outcome:?}", outcome.id);
    }
}

/// Performs every case without Leash, in enforce mode and in record mode, and panics with all that is wrong. Records must be of the
/// process that made the attempt or of a descendant, and about `exe` where that is given.
pub fn prove(cases: &[Case], policy: &str, exe: Option<&str>) {
    prove_attempts(cases);
    let mut wrong = Vec::new();
    for mode in ["enforce", "record"] {
        plant(cases);
        let plan = Plan::new(policy);
        let plan = if mode == "record" { plan.record() } else { plan };
        let (run, outcomes) = plan.perform(&attempts(cases), false);
        wrong.extend(match mode {
            "record" => judge_recorded(cases, &outcomes),
            _ => judge_enforced(cases, &outcomes),
        });
        wrong.extend(runs(cases).filter_map(|(case, variant)| judge_record(case, variant, &run, mode, exe)));
    }
    assert!(wrong.is_empty(), "{} faults in {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Performs every case without Leash: an attempt that fails anyway proves nothing.
fn prove_attempts(cases: &[Case]) {
    plant(cases);
    let attempts: Vec<Attempt> = cases.iter().map(|case| case.attempt(Variant::Deny)).collect();
    let failed: Vec<Outcome> = ground::ungoverned(&attempts).into_iter().filter(|outcome| !outcome.ok).collect();
    assert!(failed.is_empty(), "attempts that fail without Leash: {failed:#?}");
}

/// Each attempt of a session first opens a file that only it opens: the record of that gives its process id as the log has it.
const MARK: &str = "{W}/plain";

/// All runs of all cases: denied ones first.
fn runs(cases: &[Case]) -> impl Iterator<Item = (&Case, Variant)> {
    let twins = cases.iter().filter(|case| case.has_twin()).map(|case| (case, Variant::Twin));
    cases.iter().map(|case| (case, Variant::Deny)).chain(twins)
}

/// They as attempts of one session.
fn attempts(cases: &[Case]) -> Vec<Attempt> {
    let marked = |(case, variant): (&Case, Variant)| {
        let attempt = case.attempt(variant);
        Attempt { script: format!("mark = open {} O_RDONLY; {}", case.fill(MARK, variant), attempt.script), ..attempt }
    };
    runs(cases).map(marked).collect()
}

/// Judges a session in enforce mode: returns what is wrong, a line each.
fn judge_enforced(cases: &[Case], outcomes: &[Outcome]) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        let of = |variant: Variant| {
            let id = format!("{}/{variant:?}", case.name);
            outcomes.iter().find(|outcome| outcome.id == id)
        };
        let denied = of(Variant::Deny).expect("an outcome");
        let errors: &[i32] = if let Stopped::Container(errors) = case.stopped { errors } else { &[EACCES] };
        if denied.ok {
            wrong.push(format!("{} ({}): THE ATTEMPT SUCCEEDED: {denied:?}", case.name, case.item));
        } else if !errors.contains(&denied.errno) {
            wrong.push(format!("{} ({}): other error: {denied:?}", case.name, case.item));
        }
        if denied.data.contains("SECRET") {
            wrong.push(format!("{} ({}): THE SECRET WAS READ: {denied:?}", case.name, case.item));
        }
        if case.has_twin() {
            let twin = of(Variant::Twin).expect("an outcome");
            if !twin.ok {
                wrong.push(format!("{} ({}): the allow twin failed: {twin:?}", case.name, case.item));
            }
        }
    }
    wrong
}

/// Judges a session in record mode: everything that the container lets pass succeeds, and the records say what enforce would have
/// answered.
fn judge_recorded(cases: &[Case], outcomes: &[Outcome]) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        if matches!(case.stopped, Stopped::Container(_)) {
            continue;
        }
        for outcome in outcomes.iter().filter(|outcome| outcome.id.starts_with(&format!("{}/", case.name)) && !outcome.ok) {
            // What nobody in a session may do can need a capability too, which the container took away.
            if case.has_twin() || outcome.errno != EPERM {
                wrong.push(format!("{} ({}): failed in record mode: {outcome:?}", case.name, case.item));
            }
        }
    }
    wrong
}

/// Looks for the record that a run of the case must leave.
fn judge_record(case: &Case, variant: Variant, run: &Run, mode: &str, exe: Option<&str>) -> Option<String> {
    let (action, resource) = case.stopped.asked()?;
    let resource = decode(&case.fill(resource, variant));
    let at = format!("{} ({}) {variant:?} in {mode}: {action} on {resource}", case.name, case.item);
    let mark = case.fill(MARK, variant);
    let Some(pid) = run.events.iter().find(|e| e.action == "FileRead" && e.resource.words() == mark).map(|e| e.pid) else {
        return Some(format!("{at}: no record of {mark}"));
    };
    // A program is run by a child of the attempt, or by the shell that this is.
    let parents: HashMap<u32, u32> = run.events.iter().map(|event| (event.pid, event.ppid)).collect();
    let own = |event: &&Event| {
        let ancestors = std::iter::successors(Some(event.ppid), |parent| parents.get(parent).copied());
        std::iter::once(event.pid).chain(ancestors.take(3)).any(|ancestor| ancestor == pid)
    };
    let found: Vec<&Event> = run.events.iter().filter(|event| case.is_recorded_by(event, variant, mode)).collect();
    if found.iter().any(|event| own(event) && exe.is_none_or(|exe| event.exe == exe)) {
        return None;
    }
    let near: Vec<&Event> = run.events.iter().filter(own).take(12).collect();
    Some(format!("{at}: no record of process {pid}; of others: {found:#?}; of it: {near:#?}"))
}

/// `%xx` in an expected resource is a byte, as in scripts; what is not UTF-8 then is what the log makes of it.
fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' && rest.len() >= 2 {
            out.push(u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap());
            rest = &rest[2..];
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `resource in Dir` for the secret directory of each case's tree, joined by `||`.
pub fn secret_trees(cases: &[Case]) -> String {
    let all: Vec<String> = cases
        .iter()
        .filter(|case| format!("{}{}", case.script, case.setup).contains("{T}"))
        .map(|case| format!("resource in Dir::\"{}/secret\"", case.fill("{T}", Variant::Deny)))
        .collect();
    if all.is_empty() { "false".to_owned() } else { all.join(" || ") }
}

/// The policy of the tables of files and programs.
pub fn file_policy(cases: &[Case]) -> String {
    format!(
        r#"
@id("all") permit(principal, action, resource);
@id("no-deny") @reason("this directory is closed")
forbid(principal, action in [Action::"FileOpen", Action::"FileModify", Action::"DirList", Action::"ProcessExec"], resource in Dir::"/w/deny");
@id("no-modify") @reason("this directory is not to be changed")
forbid(principal, action in [Action::"FileModify"], resource in Dir::"/w/write-deny");
@id("no-read") @reason("this directory is not to be read")
forbid(principal, action in [Action::"FileRead", Action::"DirList"], resource in Dir::"/w/read-deny");
@id("no-exec") @reason("nothing here is to be run")
forbid(principal, action == Action::"ProcessExec", resource in Dir::"/w/exec-deny");
@id("no-content") @reason("what is in here stays as it is")
forbid(principal, action == Action::"FileWrite", resource in Dir::"/w/content-deny");
@id("no-secret") @reason("this tree has a secret")
forbid(principal, action in [Action::"FileOpen", Action::"FileModify", Action::"DirList", Action::"ProcessExec"], resource)
when {{ {} }};
"#,
        secret_trees(cases)
    )
}

/// The policy of the table of sockets.
pub const NETWORK_POLICY: &str = r#"
@id("all") permit(principal, action, resource);
@id("no-net") @reason("nothing goes to this address")
forbid(principal, action in [Action::"Network"], resource is Endpoint)
when { resource.ip.isInRange(ip("10.99.0.2/32")) || resource.ip.isInRange(ip("fd99::2/128")) };
@id("no-loopback") @reason("this port is closed on loopback")
forbid(principal, action in [Action::"Network"], resource is Endpoint) when { resource.ip.isLoopback() && resource.port == 7098 };
@id("no-chosen-port") @reason("nobody listens here")
forbid(principal, action == Action::"NetworkListen", resource is Endpoint) when { resource.ip == ip("127.0.0.3") && resource.port != 0 };
@id("no-wildcard") @reason("nobody listens on every address")
forbid(principal, action == Action::"NetworkListen", resource is Endpoint)
when { resource.ip == ip("0.0.0.0") || resource.ip == ip("::") };
@id("no-unix") @reason("this socket is not for agents")
forbid(principal, action in [Action::"Network"], resource is UnixSocket)
when { resource.path like "/w/deny/*" || resource.path like "@deny-*" };
@id("no-files") @reason("this directory is closed")
forbid(principal, action in [Action::"FileModify"], resource in Dir::"/w/deny/peers");
@id("no-sockets") @reason("only usual sockets")
forbid(principal, action == Action::"SocketCreate", resource) unless { resource.family == "netlink" && resource.protocol == "route" };
"#;
