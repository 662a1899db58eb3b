//! The figures of a session, and the report at its end.

use std::collections::BTreeMap;

use super::record::{Event, Mode, Tally, Totals, Verdict};
use super::show::names;
use crate::words::Plain;

/// Examples that a group of denials keeps.
const EXAMPLES: usize = 3;
/// Groups that the report shows.
const GROUPS: usize = 12;

/// Counts events as they come.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    actions: BTreeMap<String, Tally>,
    denials: BTreeMap<DenialKey, Denials>,
}

/// What denials are grouped by: the determining policies, and the reason in words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DenialKey {
    policies: Vec<String>,
    reason: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Denials {
    count: u64,
    examples: Vec<String>,
}

/// What the report is about, apart from the events.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// Mode at the end.
    pub mode: Mode,
    /// What the kernel counted.
    pub totals: &'a Totals,
    /// Where the log is, quoted for a shell.
    pub log: &'a str,
    /// How to run the same in enforce mode, for a shell; shown after a recording.
    pub enforce_hint: &'a str,
    /// How to add a policy to those that applied; shown where a permit would help.
    pub permit_hint: &'a str,
}

impl Summary {
    /// Counts one event.
    pub fn add(&mut self, event: &Event) {
        let tally = self.actions.entry(event.action.clone()).or_default();
        match event.verdict {
            Verdict::Allow => tally.allow += event.count,
            Verdict::Deny => {
                tally.deny += event.count;
                let key = DenialKey { policies: event.policies.clone(), reason: event.reason.clone() };
                let group = self.denials.entry(key).or_default();
                group.count += event.count;
                let example = format!("{} {}", event.action, event.resource.words());
                if group.examples.len() < EXAMPLES && !group.examples.contains(&example) {
                    group.examples.push(example);
                }
            }
        }
    }

    /// Actions by name.
    pub fn actions(&self) -> &BTreeMap<String, Tally> {
        &self.actions
    }

    /// The report.
    pub fn report(&self, ending: &Ending<'_>) -> Plain {
        let mut lines = Vec::new();
        let mut say = |line: std::fmt::Arguments<'_>| lines.push(Plain::line(line));
        let denied = ending.totals.deny.performed;
        let verb = match ending.mode {
            Mode::Enforce => "denied",
            Mode::Record => "would be denied",
        };
        say(format_args!("leash: {} actions allowed, {denied} {verb}", ending.totals.allow.performed));
        for (action, tally) in &self.actions {
            let denied = if tally.deny == 0 { String::new() } else { format!(", {} {verb}", tally.deny) };
            say(format_args!("  {action}: {} allowed{denied}", tally.allow));
        }
        self.say_denials(&mut say);
        let dropped = ending.totals.allow.dropped + ending.totals.deny.dropped;
        if dropped > 0 {
            say(format_args!(
                "  {dropped} actions were decided but are not in the log: events came faster than they could be written"
            ));
        }
        say(format_args!("  log: {}", ending.log));
        let mut next = Vec::new();
        if denied > 0 {
            next.push(format!("`leash log show --denied {}`", ending.log));
            next.extend(self.advice(ending));
        }
        if ending.mode == Mode::Record {
            next.push(format!("enforce it: {}", ending.enforce_hint));
        }
        if !next.is_empty() {
            say(format_args!("  next: {}", next.join("; ")));
        }
        Plain::lines(lines)
    }

    /// What would allow what was denied, as far as policies can.
    fn advice(&self, ending: &Ending<'_>) -> Option<String> {
        let unpermitted = self.denials.keys().any(|key| key.policies.is_empty() && key.reason.is_none());
        let forbidden = self.denials.keys().any(|key| !key.policies.is_empty());
        let permit = format!("to allow what no policy permits, add a permit: {}", ending.permit_hint);
        let forbid = "no permit allows what a policy forbids";
        match (unpermitted, forbidden) {
            (true, true) => Some(format!("{permit} ({forbid})")),
            (true, false) => Some(permit),
            (false, true) => Some(format!("{forbid}; that policy would have to change")),
            (false, false) => None,
        }
    }

    fn say_denials(&self, say: &mut impl FnMut(std::fmt::Arguments<'_>)) {
        let mut groups: Vec<(&DenialKey, &Denials)> = self.denials.iter().collect();
        groups.sort_by_key(|(_, denials)| std::cmp::Reverse(denials.count));
        for (key, denials) in groups.iter().take(GROUPS) {
            let policies = match (key.policies.as_slice(), &key.reason) {
                ([], None) => "no policy permits it".to_owned(),
                ([], Some(reason)) => reason.clone(),
                (policies, None) => format!("policy {}", names(policies)),
                (policies, Some(reason)) => format!("policy {}: {reason}", names(policies)),
            };
            say(format_args!("  {} × {policies}", denials.count));
            for example in &denials.examples {
                say(format_args!("      {example}"));
            }
        }
        if groups.len() > GROUPS {
            say(format_args!("  … and {} more groups of denials", groups.len() - GROUPS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::{Counts, Resource};

    fn event(action: &str, path: &str, verdict: Verdict, policies: &[&str], reason: Option<&str>, count: u64) -> Event {
        Event {
            action: action.into(),
            resource: Resource::with_path("File", path.as_bytes()),
            verdict,
            mode: Mode::Enforce,
            policies: policies.iter().map(|id| (*id).to_owned()).collect(),
            reason: reason.map(str::to_owned),
            pid: 1,
            tgid: 1,
            ppid: 1,
            uid: 1,
            exe: "/bin/cat".into(),
            exe_hex: None,
            errno: 0,
            count,
            generation: 1,
        }
    }

    #[test]
    fn the_report_groups_denials_by_policy() {
        let mut summary = Summary::default();
        summary.add(&event("FileRead", "/a", Verdict::Allow, &["system"], None, 1));
        summary.add(&event("FileRead", "/a", Verdict::Allow, &["system"], None, 40));
        for path in ["/h/.ssh/id", "/h/.ssh/id", "/h/.ssh/\x1b[2J"] {
            summary.add(&event("FileRead", path, Verdict::Deny, &["secrets"], Some("keys stay here"), 1));
        }
        summary.add(&event("FileWrite", "/etc/x", Verdict::Deny, &[], None, 1));
        let count = |performed| Counts { performed, ..Counts::default() };
        let totals = Totals { allow: count(41), deny: count(4) };
        let (enforce_hint, permit_hint) = ("leash run", "--policy FILE");
        let ending = Ending { mode: Mode::Enforce, totals: &totals, log: "/l", enforce_hint, permit_hint };
        let expected = "leash: 41 actions allowed, 4 denied\n  FileRead: 41 allowed, 3 denied\n  FileWrite: 0 allowed, 1 denied\n  \
            3 × policy secrets: keys stay here\n      FileRead /h/.ssh/id\n      FileRead /h/.ssh/\\u{1b}[2J\n  \
            1 × no policy permits it\n      FileWrite /etc/x\n  log: /l\n  \
            next: `leash log show --denied /l`; to allow what no policy permits, add a permit: --policy FILE \
            (no permit allows what a policy forbids)";
        assert_eq!(summary.report(&ending).as_str(), expected);
        let recorded = summary.report(&Ending { mode: Mode::Record, ..ending }).to_string();
        assert!(recorded.starts_with("leash: 41 actions allowed, 4 would be denied\n"), "{recorded}");
        assert!(recorded.contains("; enforce it: leash run"), "{recorded}");
    }

    #[test]
    fn names_of_policies_forge_nothing() {
        for (hostile, _) in crate::words::tests::HOSTILE {
            let mut summary = Summary::default();
            summary.add(&event(hostile, hostile, Verdict::Deny, &[hostile], Some(hostile), 1));
            summary.add(&event("FileRead", "/a", Verdict::Deny, &["no policy permits it"], None, 1));
            let totals = Totals { allow: Counts::default(), deny: Counts { performed: 2, ..Counts::default() } };
            let ending =
                Ending { mode: Mode::Enforce, totals: &totals, log: hostile, enforce_hint: hostile, permit_hint: hostile };
            let report = summary.report(&ending).to_string();
            assert!(crate::words::tests::is_inert(&report), "{report:?}");
            assert_eq!(report.lines().count(), 9, "{report}");
            assert!(report.contains("  1 × policy `no policy permits it`\n"), "{report}");
        }
    }

    #[test]
    fn a_permit_is_advised_only_where_it_helps() {
        let none: (&[&str], Option<&str>) = (&[], None);
        for (denials, advised, said) in [
            (&[none][..], true, false),
            (&[(&["secrets"][..], None)], false, true),
            (&[none, (&["secrets"], Some("keys stay here"))], true, true),
            (&[(&[], Some("the path is not known"))], false, false),
        ] {
            let mut summary = Summary::default();
            for (policies, reason) in denials {
                summary.add(&event("FileRead", "/a", Verdict::Deny, policies, *reason, 1));
            }
            let totals = Totals { allow: Counts::default(), deny: Counts { performed: 1, ..Counts::default() } };
            let (enforce_hint, permit_hint) = ("leash run", "--profile workspace --policy FILE");
            let report = summary.report(&Ending { mode: Mode::Enforce, totals: &totals, log: "/l", enforce_hint, permit_hint });
            let report = report.as_str();
            assert_eq!(report.contains("add a permit: --profile workspace --policy FILE"), advised, "{report}");
            assert_eq!(report.contains("no permit allows what a policy forbids"), said, "{report}");
        }
    }

    #[test]
    fn what_was_dropped_is_said() {
        let totals = Totals { allow: Counts { performed: 9, recorded: 2, folded: 0, dropped: 7 }, deny: Counts::default() };
        let ending = Ending { mode: Mode::Enforce, totals: &totals, log: "/l", enforce_hint: "", permit_hint: "" };
        assert!(Summary::default().report(&ending).as_str().contains("7 actions were decided but are not in the log"));
    }
}
