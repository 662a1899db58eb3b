//! Reads a log back, line by line, for people.

use super::record::{Body, Event, Mode, Record, VERSION, Verdict};
use crate::words::{Plain, name};

/// Why a line isn't a record.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// It isn't JSON of the right form.
    #[error("line {line} is no log record")]
    Form {
        /// From 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Another version wrote it.
    #[error("line {line} has log version {version}; this leash reads version {VERSION}")]
    Version {
        /// From 1.
        line: usize,
        /// The version that it has.
        version: u32,
    },
}

/// Parses line `line` (from 1) of a log.
pub fn parse(line: usize, text: &str) -> Result<Record, ShowError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        v: u32,
    }
    let versioned: Versioned = serde_json::from_str(text).map_err(|source| ShowError::Form { line, source })?;
    if versioned.v != VERSION {
        return Err(ShowError::Version { line, version: versioned.v });
    }
    serde_json::from_str(text).map_err(|source| ShowError::Form { line, source })
}

/// How a line should stand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As usual.
    Plain,
    /// A denial, or a failure.
    Bad,
    /// About the session, not its actions.
    Note,
}

/// Whether the record is a denial.
pub fn is_denial(record: &Record) -> bool {
    matches!(&record.body, Body::Event(event) if event.verdict == Verdict::Deny)
}

/// One line of text for a record.
pub fn line(record: &Record) -> (Tone, Plain) {
    // The date is in the first record's time; the clock is what one looks for.
    let clock = record.time.get(11..23).unwrap_or(&record.time);
    let (tone, words) = match &record.body {
        Body::SessionStart(start) => (
            Tone::Note,
            format!(
                "session {} of {} on {}: {} ({}, {} policies, {})",
                record.session,
                record.agent,
                record.time.get(..10).unwrap_or_default(),
                start.command.join(" "),
                mode_word(start.mode),
                start.policies.policies,
                start.backend
            ),
        ),
        Body::Event(event) => event_line(event),
        Body::PolicyReload(reload) => match &reload.error {
            None => (
                Tone::Note,
                format!("policy reloaded: generation {}, {} policies", reload.policies.generation, reload.policies.policies),
            ),
            Some(error) => (Tone::Bad, format!("policy refused, generation {} stays: {error}", reload.policies.generation)),
        },
        Body::SessionEnd(end) => {
            let why = end.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            let (allow, deny) = (end.totals.allow, end.totals.deny);
            let words = format!(
                "session ended with status {} after {:.1} s{why}; {} allowed, {} denied, {} not logged",
                end.status,
                end.seconds,
                allow.performed,
                deny.performed,
                allow.dropped.saturating_add(deny.dropped)
            );
            (if end.error.is_some() { Tone::Bad } else { Tone::Note }, words)
        }
    };
    (tone, Plain::line(format_args!("{clock} {words}")))
}

fn event_line(event: &Event) -> (Tone, String) {
    let verdict = match (event.verdict, event.mode) {
        (Verdict::Allow, _) => "allow",
        (Verdict::Deny, Mode::Enforce) => "DENY ",
        (Verdict::Deny, Mode::Record) => "deny?",
    };
    let mut words = format!("{verdict} {:<17} {}", event.action, event.resource.words());
    if event.count != 1 {
        words.push_str(&format!(" ×{}", event.count));
    }
    words.push_str(&format!("  [{} {}]", event.exe, event.tgid));
    if event.verdict == Verdict::Deny {
        let policies = if event.policies.is_empty() { "no policy permits it".to_owned() } else { names(&event.policies) };
        match &event.reason {
            Some(reason) if event.policies.is_empty() => words.push_str(&format!("  {reason}")),
            Some(reason) => words.push_str(&format!("  {policies}: {reason}")),
            None => words.push_str(&format!("  {policies}")),
        }
        return (Tone::Bad, words);
    }
    (Tone::Plain, words)
}

/// Ids of policies, one beside the other.
pub(super) fn names(policies: &[String]) -> String {
    policies.iter().map(|id| name(id)).collect::<Vec<_>>().join(", ")
}

fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Record => "record",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_json(path: &str, verdict: &str, mode: &str) -> String {
        serde_json::json!({
            "v": 1, "seq": 7, "time": "2024-02-29T12:34:56.123456789Z", "session": "s", "agent": "claude", "type": "event",
            "action": "FileRead", "resource": {"type": "File", "path": path}, "verdict": verdict, "mode": mode,
            "policies": ["secrets"], "reason": "keys stay here", "pid": 5, "tgid": 4, "ppid": 3, "uid": 1000,
            "exe": "/usr/bin/cat", "errno": 13, "count": 3, "generation": 1,
        })
        .to_string()
    }

    #[test]
    fn denials_name_their_policy() {
        let record = parse(1, &event_json("/h/.ssh/id", "deny", "enforce")).unwrap();
        let (tone, text) = line(&record);
        assert_eq!(tone, Tone::Bad);
        assert_eq!(
            text.as_str(),
            "12:34:56.123 DENY  FileRead          /h/.ssh/id ×3  [/usr/bin/cat 4]  secrets: keys stay here"
        );
        assert!(is_denial(&record));
        assert!(!is_denial(&parse(1, &event_json("/x", "allow", "enforce")).unwrap()));
    }

    #[test]
    fn names_cannot_command_the_terminal() {
        let (_, text) = line(&parse(1, &event_json("/a\x1b[2J\nb", "allow", "record")).unwrap());
        assert!(text.as_str().contains(" `/a\\u{1b}[2J\\u{a}b` "), "{text}");
    }

    #[test]
    fn totals_of_any_size_are_shown() {
        let count = serde_json::json!({"performed": u64::MAX, "recorded": 0, "folded": 0, "dropped": u64::MAX});
        let end = serde_json::json!({
            "v": 1, "seq": 1, "time": "", "session": "s", "agent": "a", "type": "session_end",
            "status": 0, "seconds": 1.0, "totals": {"allow": count, "deny": count}, "actions": {},
        });
        let (_, text) = line(&parse(1, &end.to_string()).unwrap());
        assert!(text.as_str().ends_with(&format!("{} not logged", u64::MAX)), "{text}");
    }

    #[test]
    fn other_versions_and_other_text_are_refused() {
        assert!(matches!(parse(3, "{\"v\": 2}"), Err(ShowError::Version { line: 3, version: 2 })));
        assert!(matches!(parse(4, "hello"), Err(ShowError::Form { line: 4, .. })));
        assert!(matches!(parse(4, "{\"v\": 1}"), Err(ShowError::Form { .. })));
    }
}
