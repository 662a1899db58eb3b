//! What proves that a hook asks. More than a [`Case`] proves: the records of the denial and of its allow twin must be about the very
//! process that made the attempt, and about its program.

use crate::attempt::{Attempt, Outcome};
use crate::case::{self, Case, Variant};
use crate::ground;
use crate::session::{Event, Plan, Run};

/// A call that reaches a hook.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The LSM hook.
    pub hook: &'static str,
    /// The call, its twin, and what the log says.
    pub case: Case,
}

/// Each attempt first opens a file that only it opens: the record of that gives its process id as the log has it.
const MARK: &str = "{W}/plain";

/// Performs every line without Leash, in enforce mode and in record mode, and panics with all that is wrong.
pub fn prove(lines: &[Line], policy: &dyn Fn(&[Case]) -> String) {
    let cases: Vec<Case> = lines.iter().map(|line| line.case).collect();
    let policy = policy(&cases);
    case::prove_attempts(&cases);
    let attempts: Vec<Attempt> = case::attempts(&cases).into_iter().map(|attempt| marked(&cases, attempt)).collect();

    case::plant(&cases);
    let (run, outcomes) = Plan::new(&policy).perform(&attempts, false);
    let mut wrong = case::judge_enforced(&cases, &run, &outcomes);
    wrong.extend(judge(lines, &run, &outcomes, "enforce"));

    case::plant(&cases);
    let (run, outcomes) = Plan::new(&policy).record().perform(&attempts, false);
    wrong.extend(case::judge_recorded(&cases, &run, &outcomes));
    wrong.extend(judge(lines, &run, &outcomes, "record"));
    assert!(wrong.is_empty(), "{} faults in {} calls:\n{}", wrong.len(), lines.len(), wrong.join("\n"));
}

fn marked(cases: &[Case], attempt: Attempt) -> Attempt {
    let (case, variant) = cases
        .iter()
        .flat_map(|case| [(case, Variant::Deny), (case, Variant::Twin)])
        .find(|(case, variant)| case.attempt(*variant).id == attempt.id)
        .expect("an attempt of a case");
    Attempt { script: format!("mark = open {} O_RDONLY; {}", case.fill(MARK, variant), attempt.script), ..attempt }
}

/// Judges whose records they are.
fn judge(lines: &[Line], run: &Run, outcomes: &[Outcome], mode: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for Line { hook, case } in lines {
        for variant in [Variant::Deny, Variant::Twin] {
            if !outcomes.iter().any(|outcome| outcome.id == case.attempt(variant).id) {
                continue;
            }
            let at = format!("{hook} {} {variant:?} in {mode}", case.name);
            let mark = case.fill(MARK, variant);
            let marks = run.events.iter().filter(|event| event.action == "FileRead" && event.resource.words() == mark);
            let Some(pid) = marks.map(|event| event.pid).next() else {
                wrong.push(format!("{at}: no record of {mark}"));
                continue;
            };
            // A program is run by a child of the attempt.
            let own = |event: &&Event| event.pid == pid || event.ppid == pid;
            let found: Vec<&Event> = run.events.iter().filter(|event| case.is_recorded_by(event, variant, mode)).collect();
            if !found.iter().any(|event| own(event) && event.exe == ground::ATTEMPT) {
                let near: Vec<&Event> =
                    run.events.iter().filter(|event| event.pid == pid || event.ppid == pid).take(12).collect();
                wrong.push(format!("{at}: no record of process {pid}; of others: {found:#?}; of it: {near:#?}"));
            }
        }
    }
    wrong
}
