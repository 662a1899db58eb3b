//! The agent that wants out: performs scripts of system calls and reports what each one answered.
//!
//! The suites describe an attempt as a few lines of text, run it once without Leash to prove that it works, and once inside a
//! session. So one program makes every attempt, with the same lines, and a broken attempt can't pass for a denied one.
//!
//! `leash-attempt run SCRIPT` performs one script; `leash-attempt batch FILE [--parallel]` one a line of FILE, each in a process
//! of its own. Results are JSON lines on stdout.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test program: failing loudly is its job

mod exec;
mod files;
mod kernel;
mod loops;
mod net;
mod script;
mod swap;
mod sys;

use leash_tests::attempt::{Attempt, Outcome};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::io::Write;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        ["say", ..] => println!("EXECUTED"),
        ["run", script] => report(&script::perform(&Attempt::new("run", *script))),
        ["batch", file] => batch(file, false),
        ["batch", file, "--parallel"] => batch(file, true),
        // Started under a name of its choice, or by `#!` with a script's name: nothing more than a sign of life.
        _ => println!("EXECUTED"),
    }
}

fn batch(file: &str, parallel: bool) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("read `{file}`: {error}"));
    let mut running = Vec::new();
    for line in text.lines() {
        let attempt: Attempt = serde_json::from_str(line).expect("one attempt a line");
        // SAFETY: this program has one thread, so the child may do anything.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                nix::unistd::alarm::set(attempt.seconds);
                report(&script::perform(&attempt));
                std::process::exit(0);
            }
            ForkResult::Parent { child } if parallel => running.push((attempt.id, child)),
            ForkResult::Parent { child } => await_child(&attempt.id, child),
        }
    }
    for (id, child) in running {
        await_child(&id, child);
    }
}

fn await_child(id: &str, child: nix::unistd::Pid) {
    let status = waitpid(child, None).expect("wait for the attempt");
    if !matches!(status, WaitStatus::Exited(_, 0)) {
        let note = format!("ended by {status:?}");
        report(&Outcome { id: id.to_owned(), ok: false, errno: -1, note, ..Outcome::default() });
    }
}

fn report(outcome: &Outcome) {
    let mut line = serde_json::to_vec(outcome).expect("an outcome is JSON");
    line.push(b'\n');
    // One write, so that parallel attempts don't mix.
    std::io::stdout().write_all(&line).expect("write the outcome");
}
