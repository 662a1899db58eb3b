//! No silent loss: what a session performed is what its log says, to the last open.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use leash_tests::attempt::Attempt;
use leash_tests::ground;
use leash_tests::session::{Plan, Run};
use std::fs;

const PROCESSES: u64 = 4;
const POLICY: &str = r#"
@id("all") permit(principal, action, resource);
@id("no-flood") @reason("closed") forbid(principal, action == Action::"FileRead", resource == File::"/w/flood/denied");
"#;

/// Opens of one file by all processes together: `LEASH_OPENS`, by default what an emulated processor does in seconds.
fn opens() -> u64 {
    std::env::var("LEASH_OPENS").map_or(40_000, |text| text.parse().expect("`LEASH_OPENS` is a number"))
}

/// As many denials as the log can take as lines; a denial is never folded.
fn denied_opens() -> u64 {
    opens() / 20
}

fn flood(plan: &Plan, path: &str, times: u64) -> (Run, Counts) {
    let script = format!("opens {PROCESSES} {} {path}", times / PROCESSES);
    let mut attempt = Attempt::new("flood", script);
    attempt.seconds = 900;
    let (run, outcomes) = plan.perform(&[attempt], false);
    assert!(outcomes[0].ok, "{outcomes:?}");
    let counts = serde_json::from_str(&outcomes[0].data).expect("counts");
    (run, counts)
}

#[derive(serde::Deserialize, PartialEq, Debug)]
struct Counts {
    opened: u64,
    denied: u64,
    failed: u64,
}

fn ready() {
    ground::ready();
    let root = ground::fresh("/w/flood");
    for name in ["allowed", "denied"] {
        fs::write(root.join(name), "text").unwrap();
    }
}

/// Sum of `count` over the records of a verdict on a file.
fn counted(run: &Run, verdict: &str, path: &str) -> u64 {
    let events = run.events.iter().filter(|e| e.verdict == verdict && e.action == "FileRead" && e.resource.words() == path);
    events.map(|event| event.count).sum()
}

#[test]
fn every_allowed_open_is_recorded_folded_or_counted_as_dropped() {
    ready();
    let times = opens();
    let (run, counts) = flood(&Plan::new(POLICY), "/w/flood/allowed", times);
    assert_eq!(counts, Counts { opened: times, denied: 0, failed: 0 });
    let [_, _, folded, dropped] = run.totals("allow");
    let counted = counted(&run, "allow", "/w/flood/allowed");
    assert!(counted <= times && counted + dropped >= times, "{counted} of {times}, {dropped} dropped");
    assert_eq!(dropped, 0, "equal actions are folded, so nothing has to be dropped");
    assert!(folded > times / 2, "{folded} of {times} folded");
}

#[test]
fn every_denied_open_is_logged() {
    ready();
    let times = denied_opens();
    let (run, counts) = flood(&Plan::new(POLICY), "/w/flood/denied", times);
    assert_eq!(counts, Counts { opened: 0, denied: times, failed: 0 });
    let denials: Vec<_> = run.denials("FileRead", "/w/flood/denied").collect();
    assert_eq!(denials.len() as u64, times);
    assert!(denials.iter().all(|event| event.count == 1 && event.errno == 13 && event.policies == ["no-flood"]));
    assert_eq!(run.totals("deny"), [times, times, 0, 0]);
}

#[test]
fn record_mode_counts_what_enforce_would_have_denied() {
    ready();
    let times = denied_opens() / 4;
    let (run, counts) = flood(&Plan::new(POLICY).record(), "/w/flood/denied", times);
    assert_eq!(counts, Counts { opened: times, denied: 0, failed: 0 });
    assert_eq!(run.totals("deny"), [times, times, 0, 0]);
    assert!(run.denials("FileRead", "/w/flood/denied").all(|event| event.errno == 0 && event.mode == "record"));
}

/// Red-team 48: a flood of one verdict must not hide a record of the other.
#[test]
fn a_flood_hides_nothing() {
    ready();
    let half = opens() / 2 / PROCESSES;
    let few = 25;
    let mut attempts: Vec<Attempt> =
        (0..2).map(|n| Attempt::new(format!("flood-{n}"), format!("opens 2 {half} /w/flood/allowed"))).collect();
    attempts.push(Attempt::new("needle", format!("opens 1 {few} /w/flood/denied")));
    for attempt in &mut attempts {
        attempt.seconds = 900;
    }
    let (run, outcomes) = Plan::new(POLICY).perform(&attempts, true);
    assert!(outcomes.iter().all(|outcome| outcome.ok), "{outcomes:?}");
    assert_eq!(run.denials("FileRead", "/w/flood/denied").count(), few);
    assert_eq!(run.totals("deny")[3], 0);
    let [.., dropped] = run.totals("allow");
    assert_eq!(counted(&run, "allow", "/w/flood/allowed") + dropped, 4 * half);
}
