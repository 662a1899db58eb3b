//! What a session was permitted and a person should know of: the resources of actions that policies with a `@notice` permitted.

use std::collections::{BTreeMap, BTreeSet};

use leash_policy::PolicyRef;

use crate::words::{Plain, name};

/// Names that a group keeps.
const KEPT: usize = 10_000;
/// Names that a group shows.
const SHOWN: usize = 20;

/// What was permitted, by the policy's place among all, and its notice.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    /// Some policy has a notice.
    expected: bool,
    groups: BTreeMap<(usize, String), Group>,
}

#[derive(Clone, Debug, Default)]
struct Group {
    names: BTreeSet<String>,
    /// There were more than are kept.
    full: bool,
}

impl Notices {
    /// Nothing yet of what these policies permit.
    pub fn new(policies: &[PolicyRef]) -> Self {
        Self { expected: policies.iter().any(|policy| policy.notice.is_some()), groups: BTreeMap::new() }
    }

    /// Notes that something happened to `name` that a policy with this place and notice permitted.
    pub fn add(&mut self, place: usize, notice: &str, name: &str) {
        let group = self.groups.entry((place, notice.to_owned())).or_default();
        if group.names.len() < KEPT {
            group.names.insert(name.to_owned());
        } else {
            group.full |= !group.names.contains(name);
        }
    }

    /// The notices in plain lines; nothing if there are none. `there` says whether something has a name still. `dropped` actions are not in
    /// the log, so nothing is known of them.
    pub fn report(&self, dropped: u64, there: &dyn Fn(&str) -> bool) -> Plain {
        let mut lines = Vec::new();
        for ((_, notice), group) in &self.groups {
            let (left, gone): (Vec<&String>, Vec<&String>) = group.names.iter().partition(|path| there(path));
            lines.push(format!("  {notice}:"));
            lines.extend(left.iter().take(SHOWN).map(|path| format!("      {}", name(path))));
            if left.len() > SHOWN || group.full {
                let at_least = if group.full { " at least" } else { "" };
                lines.push(format!("      … and {} more{at_least}", left.len().saturating_sub(SHOWN)));
            }
            if let Some(first) = gone.first() {
                let words = "more were removed, or moved along with a directory, such as";
                lines.push(format!("      {} {words} {}", gone.len(), name(first)));
            }
        }
        if self.expected && dropped > 0 {
            lines.push(format!("  whatever else there may be: {dropped} actions came too fast to be recorded"));
        }
        if lines.is_empty() {
            return Plain::default();
        }
        lines.insert(0, "leash: look at these before you use them outside of a session".to_owned());
        Plain::lines(lines.into_iter().map(Plain::line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(notice: Option<&str>) -> PolicyRef {
        PolicyRef {
            id: "p".into(),
            effect: leash_policy::Effect::Permit,
            reason: None,
            notice: notice.map(str::to_owned),
            source: "s".into(),
            line: 1,
        }
    }

    #[test]
    fn names_are_grouped_by_notice_in_the_order_of_policies() {
        let (plain, first) = (policy(None), policy(Some("repositories")));
        let mut notices = Notices::new(&[plain.clone(), first.clone()]);
        for (place, notice, name) in [
            (9, "traps \x1b[2J", "/w/.vscode/\x1b]0;x"),
            (2, "repositories", "/w/sub/.git"),
            (2, "repositories", "/w/gone"),
            (2, "repositories", "/w/sub/.git"),
        ] {
            notices.add(place, notice, name);
        }
        let there = |name: &str| name != "/w/gone";
        let expected = "leash: look at these before you use them outside of a session\n  repositories:\n      /w/sub/.git\n      \
            1 more were removed, or moved along with a directory, such as /w/gone\n  traps \\u{1b}[2J:\n      /w/.vscode/\\u{1b}]0;x";
        assert_eq!(notices.report(0, &there).as_str(), expected);
        assert_eq!(
            notices.report(3, &there).as_str(),
            format!("{expected}\n  whatever else there may be: 3 actions came too fast to be recorded")
        );
        assert_eq!(Notices::new(&[plain]).report(3, &there), Plain::default());
        assert!(Notices::new(&[first]).report(3, &there).as_str().contains("3 actions"));
    }

    #[test]
    fn many_names_are_counted() {
        let mut notices = Notices::new(&[policy(Some("repositories"))]);
        for number in 0..KEPT + 5 {
            notices.add(1, "repositories", &format!("/w/{number:05}"));
        }
        let report = notices.report(0, &|_| true);
        assert_eq!(report.as_str().lines().count(), SHOWN + 3, "{report}");
        assert!(report.as_str().contains("… and 9980 more at least"), "{report}");
    }
}
