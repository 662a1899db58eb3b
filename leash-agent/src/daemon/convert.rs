//! From the kernel's events to the log's.

use std::collections::BTreeMap;

use leash_common::event::Cause;
use leash_common::kind::ResourceType;
use leash_policy::{Compiled, PolicyRef};

use crate::audit::record::{self, Counts, Resource, Totals, Verdict, text_and_hex};
use crate::enforce;

/// The compiled policies by generation. Old ones stay, because an event may name one after it was replaced.
pub(super) type Generations = BTreeMap<u32, Compiled>;

/// Converts one event.
pub(super) fn event(event: &enforce::Event, generations: &Generations) -> record::Event {
    let (policies, reason) = match event.cause {
        Cause::Policy => determining(event, generations),
        cause => (Vec::new(), Some(cause.words().to_owned())),
    };
    let (exe, exe_hex) = text_and_hex(&event.exe);
    record::Event {
        action: event.kind.action().to_owned(),
        resource: resource(event),
        verdict: if event.allow { Verdict::Allow } else { Verdict::Deny },
        mode: mode(event.mode),
        policies,
        reason,
        pid: event.pid,
        tgid: event.tgid,
        ppid: event.ppid,
        uid: event.uid,
        exe,
        exe_hex,
        errno: event.errno,
        count: event.count,
        generation: event.generation,
    }
}

/// Ids of the determining policies, and their reasons as one text.
fn determining(event: &enforce::Event, generations: &Generations) -> (Vec<String>, Option<String>) {
    let Some(compiled) = generations.get(&event.generation) else { return (Vec::new(), None) };
    let policies = compiled.reason(event.reason);
    let mut ids: Vec<String> = policies.iter().map(|policy| policy.id.clone()).collect();
    ids.sort();
    let mut reasons: Vec<&str> = policies.iter().filter_map(|policy| policy.reason.as_deref()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    (ids, (!reasons.is_empty()).then(|| reasons.join("; ")))
}

/// The first policy with a `@notice` that permitted it: its place among all, and what it says.
pub(super) fn notice<'a>(event: &enforce::Event, generations: &'a Generations) -> Option<(usize, &'a str)> {
    let permitted = event.allow && event.cause == Cause::Policy;
    let compiled = generations.get(&event.generation).filter(|_| permitted)?;
    let notices = compiled.reason(event.reason).into_iter().filter_map(|policy| Some((policy, policy.notice.as_deref()?)));
    let place = |policy: &PolicyRef| compiled.policies().iter().position(|other| other.id == policy.id);
    notices.filter_map(|(policy, notice)| Some((place(policy)?, notice))).min()
}

fn resource(event: &enforce::Event) -> Resource {
    let kind = event.kind.resource_type();
    match &event.resource {
        enforce::EventResource::Endpoint { ip, port, protocol } => Resource::endpoint(*ip, *port, protocol.name()),
        enforce::EventResource::Path(name) if kind == ResourceType::Socket => Resource::socket(name),
        enforce::EventResource::Path(path) => Resource::with_path(kind.name(), path),
    }
}

/// The log's mode for the kernel's.
pub(super) fn mode(mode: enforce::Mode) -> record::Mode {
    match mode {
        enforce::Mode::Enforce => record::Mode::Enforce,
        enforce::Mode::Record => record::Mode::Record,
    }
}

/// The kernel's mode for the log's.
pub(super) fn kernel_mode(mode: record::Mode) -> enforce::Mode {
    match mode {
        record::Mode::Enforce => enforce::Mode::Enforce,
        record::Mode::Record => enforce::Mode::Record,
    }
}

/// The log's totals for the kernel's.
pub(super) fn totals(totals: &enforce::Totals) -> Totals {
    let counts = |counts: &enforce::Counts| Counts {
        performed: counts.performed,
        recorded: counts.recorded,
        folded: counts.folded,
        dropped: counts.dropped,
    };
    Totals { allow: counts(&totals.allow), deny: counts(&totals.deny) }
}
