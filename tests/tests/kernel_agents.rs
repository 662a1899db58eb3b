//! Real coding agents under `leash run`: the work they are asked for succeeds, the attacks in their script fail with the policy named,
//! and they go on. `tests/agents/README.md` says how an agent gets a script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

mod governed;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use governed::{Log, describe, fixtures, leash, names_policy, resource_text, scratch};
use leash_tests::user;
use serde::Deserialize;

/// What `run.py` reports.
#[derive(Deserialize)]
struct Report {
    exit_code: i32,
    finished: bool,
    complaints: Vec<String>,
    /// Connections that reached the listeners on the attacked addresses.
    visits: BTreeMap<String, u32>,
    home: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    name: String,
    kind: String,
    succeeded: bool,
    denied: bool,
    output: Option<String>,
}

/// An attack of `scenario.json`: its step, and the question that Leash answers with a policy.
const ATTACKS: [(&str, &str, &str, &str); 5] = [
    ("ssh-key", "FileRead", "{home}/.ssh/id_ed25519", "no-ssh-gpg-keys"),
    ("etc-write", "FileCreate", "/etc/leash-scenario.sh", "no-changes-to-etc"),
    ("private-address", "NetworkConnect", "10.99.0.1:8099", "no-private-networks"),
    ("metadata-address", "NetworkConnect", "169.254.169.254:80", "no-metadata-services"),
    ("denied-program", "ProcessExec", "/usr/bin/curl", "no-curl"),
];

const EACCES: i32 = 13;

fn run(agent: &str, directory: &Path, leash_args: Option<&[&str]>) -> Report {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(fixtures().join("agents/run.py")).args(["--throw-away", "--agent", agent, "--dir"]).arg(directory);
    if let Some(user) = user::ordinary() {
        command.arg(format!("--user={user}"));
    }
    if let Some(arguments) = leash_args {
        command.arg("--leash").arg(leash()).arg("--").args(arguments);
    }
    let output = command.output().expect("python3 starts");
    let log = std::fs::read_to_string(directory.join("agent.log")).unwrap_or_default();
    let words = String::from_utf8_lossy(&output.stderr);
    let report: Report =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no report of {agent}: {error}\n{words}\n{log}"));
    assert!(report.complaints.is_empty(), "{agent}: {:?}\n{log}", report.complaints);
    assert!(report.finished, "{agent} gave up\n{log}");
    assert_eq!(report.exit_code, 0, "{agent}\n{log}");
    for step in report.steps.iter().filter(|step| step.kind == "work") {
        assert!(step.succeeded && !step.denied, "{agent}: {} failed: {:?}", step.name, step.output);
    }
    report
}

fn attack<'a>(report: &'a Report, name: &str) -> &'a Step {
    report.steps.iter().find(|step| step.name == name && step.kind == "attack").expect("the scenario has this attack")
}

/// The denial that the log must hold for an attack, with the policy that decided.
fn assert_denied(log: &Log, report: &Report, errno: i32) {
    for (name, action, resource, policy) in ATTACKS {
        let resource = resource.replace("{home}", &report.home);
        let denials = log.denials_of(action, &resource);
        assert!(!denials.is_empty(), "{name}: no denial of {action} on {resource} among\n{}", log.denials_text());
        for denial in denials {
            assert!(names_policy(denial, policy), "{name}: {}", describe(denial));
            assert_eq!(denial["errno"], errno, "{name}: {}", describe(denial));
        }
    }
}

/// An agent's own work must not be in the way of the profile made for it.
fn assert_nothing_else_denied(log: &Log, report: &Report) {
    let attacked = |text: &str| ATTACKS.iter().any(|(_, _, resource, _)| text == resource.replace("{home}", &report.home));
    let others: Vec<String> =
        log.denials().into_iter().filter(|record| !attacked(&resource_text(record))).map(describe).collect();
    assert!(others.is_empty(), "denied besides the attacks:\n{}", others.join("\n"));
}

fn enforce(agent: &str) {
    let directory = scratch();
    let report = run(agent, directory.path(), Some(&["--mode", "enforce"]));
    for (name, ..) in ATTACKS {
        let step = attack(&report, name);
        assert!(!step.succeeded && step.denied, "{agent}: {name} was not denied: {:?}", step.output);
    }
    assert_eq!(report.visits.values().sum::<u32>(), 0, "{agent} reached {:?}", report.visits);
    assert!(!Path::new("/etc/leash-scenario.sh").exists());
    let log = Log::read(&directory.path().join("log.jsonl"));
    assert_denied(&log, &report, EACCES);
    assert_nothing_else_denied(&log, &report);
    log.only("session_start");
    log.only("session_end");
}

/// By itself the agent gets through with all of it: without this, a denial proves nothing.
#[test]
fn attacks_succeed_outside_leash_run() {
    let directory = scratch();
    let report = run("codex", directory.path(), None);
    std::fs::remove_file("/etc/leash-scenario.sh").expect("the attack made this file");
    for (name, ..) in ATTACKS {
        assert!(attack(&report, name).succeeded, "{name} failed without Leash: {:?}", attack(&report, name).output);
    }
    assert!(report.visits.values().all(|&visits| visits == 1), "{:?}", report.visits);
}

/// In record mode nothing is denied, and the log says what would have been.
#[test]
fn recording_denies_nothing_and_says_what_it_would() {
    let directory = scratch();
    let report = run("codex", directory.path(), Some(&["--mode", "record"]));
    std::fs::remove_file("/etc/leash-scenario.sh").expect("the attack made this file");
    for (name, ..) in ATTACKS {
        assert!(attack(&report, name).succeeded, "{name} failed in record mode: {:?}", attack(&report, name).output);
    }
    let log = Log::read(&directory.path().join("log.jsonl"));
    assert_denied(&log, &report, 0);
}

#[test]
fn mini_swe_agent_works_and_its_attacks_are_denied() {
    enforce("mini-swe-agent");
}

#[test]
fn codex_works_and_its_attacks_are_denied() {
    enforce("codex");
}

#[test]
fn gemini_works_and_its_attacks_are_denied() {
    enforce("gemini");
}
