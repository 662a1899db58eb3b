//! Each ready profile decides its table of requests (`policies/tests/<profile>.jsonl`) as its author expects: the tables and
//! Cedar's own authorizer both.

use std::path::Path;

use leash_policy::{Principal, Request, Variables, compile, profile};

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

#[test]
fn every_profile_decides_its_table() {
    let mut wrong = Vec::new();
    for profile in profile::PROFILES {
        let principal = Principal { name: profile.agent.unwrap_or("agent").to_owned(), ..Principal::default() };
        let compiled = match compile(&profile.sources(), &variables(), &principal) {
            Ok(compiled) => compiled,
            Err(diagnostics) => panic!("profile {} does not compile: {diagnostics:?}", profile.name),
        };
        let table = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../policies/tests/{}.jsonl", profile.name));
        let text = std::fs::read_to_string(&table).unwrap();
        let mut rows = 0;
        for line in text.lines() {
            rows += 1;
            let row: Row = serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {line}: {error}", table.display()));
            for (who, outcome) in [("cedar", compiled.cedar(&row.request)), ("tables", compiled.decide(&row.request))] {
                let outcome = serde_json::to_value(&outcome).unwrap();
                if outcome["verdict"] != row.expect.as_str() {
                    wrong.push(format!("{} {who}: {line}\n   got {outcome}", profile.name));
                } else if let Some(expected) = &row.policies {
                    let mut got: Vec<_> = outcome["policies"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
                    let mut expected: Vec<_> = expected.iter().map(String::as_str).collect();
                    got.sort_unstable();
                    expected.sort_unstable();
                    if got != expected {
                        wrong.push(format!("{} {who}: {line}\n   got {outcome}", profile.name));
                    }
                }
            }
        }
        assert!(rows > 50, "{} has only {rows} rows", table.display());
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
