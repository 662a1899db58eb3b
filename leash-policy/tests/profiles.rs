//! Each ready profile decides its table of requests (`policies/tests/<profile>.jsonl`) as its author expects, and the tables that several
//! have in common: the tables of the kernel and Cedar's own authorizer both.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use std::path::Path;

use leash_policy::{Compiled, Effect, Principal, Request, Variables, compile, profile};

#[derive(serde::Deserialize)]
struct Row {
    #[serde(flatten)]
    request: Request,
    expect: String,
    policies: Option<Vec<String>>,
}

fn variables() -> Variables {
    [
        ("HOME", "/home/u"),
        ("WORKSPACE", "/home/u/project"),
        ("TMPDIR", "/tmp"),
        ("DNS1", "192.168.1.1"),
        ("DNS2", "127.0.0.1"),
        ("DNS3", "127.0.0.1"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// Tables that hold for more than one profile, and those for which they don't.
const COMMON: [(&str, &[&str]); 3] =
    [("workspace-traps", &["readonly"]), ("workspace-secrets", &[]), ("workspace-network", &["no-network"])];

fn compiled(profile: &profile::Profile) -> Compiled {
    let principal = Principal { name: profile.agent.unwrap_or("agent").to_owned(), ..Principal::default() };
    match compile(&profile.sources(), &variables(), &principal) {
        Ok(compiled) => compiled,
        Err(diagnostics) => panic!("profile {} does not compile: {diagnostics:?}", profile.name),
    }
}

/// Decides the requests of a table; returns how many there are.
fn decide(table: &str, profile: &str, compiled: &Compiled, wrong: &mut Vec<String>) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../policies/tests/{table}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap();
    for line in text.lines() {
        let row: Row = serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {line}: {error}", path.display()));
        for (who, outcome) in [("cedar", compiled.cedar(&row.request)), ("tables", compiled.decide(&row.request))] {
            let outcome = serde_json::to_value(&outcome).unwrap();
            if outcome["verdict"] != row.expect.as_str() {
                wrong.push(format!("{profile} {who}: {line}\n   got {outcome}"));
            } else if let Some(expected) = &row.policies {
                let mut got: Vec<_> = outcome["policies"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
                let mut expected: Vec<_> = expected.iter().map(String::as_str).collect();
                got.sort_unstable();
                expected.sort_unstable();
                if got != expected {
                    wrong.push(format!("{profile} {who}: {line}\n   got {outcome}"));
                }
            }
        }
    }
    text.lines().count()
}

#[test]
fn every_profile_decides_its_table() {
    let mut wrong = Vec::new();
    for profile in profile::PROFILES {
        let compiled = compiled(profile);
        let rows = decide(profile.name, profile.name, &compiled, &mut wrong);
        assert!(rows > 50, "{} has only {rows} rows", profile.name);
        for (table, without) in COMMON {
            if !without.contains(&profile.name) {
                decide(table, profile.name, &compiled, &mut wrong);
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whoever is denied something by a profile reads why, and only permits tell of what they permitted.
#[test]
fn every_forbid_says_why() {
    for profile in profile::PROFILES {
        for policy in compiled(profile).policies() {
            assert!(policy.effect == Effect::Permit || policy.reason.is_some(), "{} of {}", policy.id, profile.name);
            assert!(policy.effect == Effect::Permit || policy.notice.is_none(), "{} of {}", policy.id, profile.name);
        }
    }
}
