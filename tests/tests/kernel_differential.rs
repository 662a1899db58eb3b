//! Promise 1, on real kernels: random policies and requests, performed as real system calls inside a session, get the verdict and the
//! determining policies that `cedar_policy::Authorizer` gives.
//!
//! The seed is printed and can be given back in `LEASH_SEED`; seeds that once found a difference are in [`CORPUS`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use leash_policy::{Compiled, Principal, Request, Source, Variables, Verdict, compile};
use leash_tests::attempt::Attempt;
use leash_tests::ground;
use leash_tests::random::{Question, Random, World};
use leash_tests::session::{EACCES, Event, Plan, Run};
use std::collections::BTreeMap;

/// Seeds of past finds.
const CORPUS: &[u64] = &[];
/// Policy sets in a run, and questions to each by each program.
const POLICY_SETS: u64 = 12;
const QUESTIONS: usize = 64;

#[test]
fn the_kernel_answers_as_cedar_does() {
    ground::ready();
    let seed = std::env::var("LEASH_SEED").map_or_else(|_| fresh_seed(), |text| text.parse().expect("`LEASH_SEED` is a number"));
    println!("LEASH_SEED={seed}");
    let mut compared = 0;
    let mut wrong = Vec::new();
    for set in CORPUS.iter().copied().chain((0..POLICY_SETS).map(|number| seed.wrapping_add(number))) {
        compared += compare(set, &mut wrong);
    }
    assert!(wrong.is_empty(), "{} of {compared} differ (seed {seed}):\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared >= 2_000, "only {compared} comparisons");
    println!("{compared} comparisons");
}

fn fresh_seed() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// One policy set: performs its questions in a session and compares. Returns how many answers were compared.
fn compare(seed: u64, wrong: &mut Vec<String>) -> usize {
    let mut random = Random::new(seed);
    let mut world = World::new();
    let policy = world.policy(&mut random);
    // The outcomes come program by program, in the order of the questions.
    let questions: Vec<Question> =
        World::PROGRAMS.iter().flat_map(|program| world.questions(&mut random, program, QUESTIONS)).collect();
    let command: Vec<String> = World::PROGRAMS
        .iter()
        .map(|program| {
            let of_program = questions.iter().filter(|question| question.program == *program);
            let attempts: Vec<Attempt> = of_program.map(|question| question.attempt.clone()).collect();
            format!("{program} batch {}", ground::write_attempts(&attempts).display())
        })
        .collect();
    let run = Plan::new(&policy).run(&["/bin/sh", "-c", &command.join("; ")]);
    let outcomes: BTreeMap<String, i32> =
        ground::outcomes(&run.stdout).into_iter().map(|outcome| (outcome.id, outcome.errno)).collect();
    let compiled = compiled(&policy, &run);
    let mut compared = 0;
    for question in &questions {
        let errno = *outcomes
            .get(&question.attempt.id)
            .unwrap_or_else(|| panic!("seed {seed}: no outcome, status {}\n{}", run.status, run.stderr));
        // The kernel asks one request after the other until one is denied, or both requests of one call.
        let mut denied = false;
        for request in &question.requests {
            let cedar = compiled.cedar(request);
            compared += 1;
            let answers: Vec<&Event> = run.events.iter().filter(|event| is_about(event, request)).collect();
            let agrees = |event: &&Event| {
                let verdict = if cedar.verdict == Verdict::Allow { "allow" } else { "deny" };
                let mut policies = cedar.policies.clone();
                policies.sort();
                event.verdict == verdict && event.policies == policies
            };
            if answers.is_empty() || !answers.iter().all(agrees) {
                let events: Vec<String> =
                    answers.iter().map(|event| format!("{} {:?} {:?}", event.verdict, event.policies, event.reason)).collect();
                wrong.push(format!(
                    "seed {seed}: {request:?}\n  Cedar: {cedar:?}\n  kernel: {events:?}\n  attempt: {}",
                    question.attempt.script
                ));
            }
            denied |= cedar.verdict == Verdict::Deny;
            if denied && !question.all_at_once {
                break;
            }
        }
        if denied != (errno == EACCES) {
            wrong.push(format!("seed {seed}: errno {errno}, denied: {denied}: {:?}", question.attempt));
        }
    }
    compared
}

/// The policy as the session had it: same text, same principal.
fn compiled(policy: &str, run: &Run) -> Compiled {
    let principal: Principal = serde_json::from_value(run.start["principal"].clone()).expect("a principal");
    let source = Source { name: "random.cedar".to_owned(), text: policy.to_owned() };
    match compile(&[source], &Variables(BTreeMap::new()), &principal) {
        Ok(compiled) => compiled,
        Err(faults) => panic!("the session accepted what doesn't compile: {faults:?}\n{policy}"),
    }
}

fn is_about(event: &Event, request: &Request) -> bool {
    let request = serde_json::to_value(request).expect("a request is JSON");
    let same = |name: &str, value: Option<String>| {
        request["resource"].get(name).map(|json| json.as_str().map_or_else(|| json.to_string(), str::to_owned)) == value
    };
    let resource = &event.resource;
    request["action"] == event.action.as_str()
        && request["context"]["exe"] == event.exe.as_str()
        && request["resource"]["type"] == resource.kind.as_str()
        && same("path", resource.path.clone())
        && same("name", resource.name.clone())
        && same("ip", resource.ip.map(|ip| ip.to_string()))
        && same("port", resource.port.map(|port| port.to_string()))
        && same("protocol", resource.protocol.clone())
}
