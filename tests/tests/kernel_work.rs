//! Ordinary work under the `workspace` profile: it succeeds as it does by itself, and nothing of it is denied.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

mod governed;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use governed::{Log, at_home, fixtures, leash, scratch};
use leash_tests::user;

/// A fresh copy of a project of `tests/work`.
fn project(name: &str, directory: &Path) -> PathBuf {
    let copied = Command::new("cp").arg("-R").arg(fixtures().join("work").join(name)).arg(directory).status();
    assert!(copied.expect("cp starts").success());
    let project = directory.join(name);
    if project.join("prepare.sh").exists() {
        assert!(Command::new("sh").arg("prepare.sh").current_dir(&project).status().expect("sh starts").success());
    }
    project
}

/// The home directory of the work: an empty one, or the caller's for work that needs the caller's tools.
fn environment(command: &mut Command, home: &Path) {
    let cargo = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    command.env_clear().env("HOME", home).env("LANG", "C.UTF-8").env("TERM", "dumb");
    command.env("PATH", format!("{}/bin:/usr/local/bin:/usr/bin:/bin", cargo.display()));
}

fn assert_done(output: &Output, what: &str) {
    let (out, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}\n{words}", output.status);
    assert_eq!(out.lines().last(), Some("WORK-DONE"), "{what}\n{out}\n{words}");
}

fn work(name: &str, home: Option<PathBuf>) {
    let directory = scratch();
    let home = home.unwrap_or_else(|| directory.path().join("home"));
    fs::create_dir_all(&home).expect("a home directory");
    let (alone, governed) = (directory.path().join("alone"), directory.path().join("governed"));
    fs::create_dir(&alone).and_then(|()| fs::create_dir(&governed)).expect("two directories");

    let workspace = project(name, &alone);
    user::hand_over(directory.path());
    let mut command = Command::new("sh");
    user::act(&mut command);
    environment(&mut command, &home);
    let output = command.arg("run.sh").current_dir(workspace).output().expect("sh starts");
    assert_done(&output, "by itself");

    let workspace = project(name, &governed);
    user::hand_over(directory.path());
    let log = directory.path().join("log.jsonl");
    let mut command = at_home(&home, directory.path());
    environment(&mut command, &home);
    command.arg(leash()).args(["run", "--profile", "workspace", "--workspace"]).arg(&workspace).arg("--log").arg(&log);
    let output = command.args(["--", "sh", "run.sh"]).current_dir(&workspace).output().expect("leash starts");
    let log = Log::read(&log);
    assert!(log.denials().is_empty(), "{name}: denied\n{}\n{}", log.denials_text(), String::from_utf8_lossy(&output.stderr));
    assert_done(&output, "under leash run");
    log.only("session_end");
}

fn caller_home() -> Option<PathBuf> {
    Some(PathBuf::from(env::var_os("HOME").expect("the caller has a home directory")))
}

#[test]
fn git_clone_commit_merge_rebase() {
    work("git", None);
}

#[test]
fn a_thousand_files_are_cloned() {
    work("clone", None);
}

#[test]
fn c_project_with_make() {
    work("make", None);
}

#[test]
fn rust_crate_offline() {
    work("cargo", caller_home());
}

#[test]
fn python_test_suite() {
    work("python", None);
}

#[test]
fn node_test_suite() {
    work("node", None);
}

/// What git would run later, outside of the session, can't be planted in what was there before it; new repositories can be made, and are told of.
#[test]
fn repositories_are_made_and_none_that_was_there_runs_anything_later() {
    let directory = scratch();
    let (home, marker, log) = (directory.path().join("home"), directory.path().join("ran"), directory.path().join("log.jsonl"));
    fs::create_dir(&home).expect("a home directory");
    let workspace = project("repositories", directory.path());
    user::hand_over(directory.path());
    let mut command = at_home(&home, directory.path());
    environment(&mut command, &home);
    command.arg(leash()).args(["run", "-q", "--profile", "workspace", "--workspace"]).arg(&workspace).arg("--log").arg(&log);
    let output = command.args(["--", "sh", "run.sh"]).arg(&marker).current_dir(&workspace).output().expect("leash starts");
    let (out, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(out, "WORK-DONE\n", "{words}");

    let log = Log::read(&log);
    let denied: Vec<(String, &str)> = log
        .denials()
        .into_iter()
        .map(|record| {
            assert_eq!(record["errno"], 13, "{record}");
            let policy = record["policies"].as_array().unwrap().last().map_or("", |policy| policy.as_str().unwrap());
            let path = governed::resource_text(record);
            (path.strip_prefix(&format!("{}/", workspace.display())).unwrap().to_owned(), policy)
        })
        .collect();
    for (path, policy) in [
        (".git/config", "workspace-traps"),
        (".git/commondir", "workspace-traps"),
        (".git/worktrees/worktree/commondir", "workspace-repositories"),
        (".git/worktrees/worktree/gitdir", "workspace-repositories"),
        (".git/worktrees/worktree/config", "workspace-repositories"),
        (".git/worktrees/worktree/config.worktree", "workspace-repositories"),
        (".git/modules/sub/config", "workspace-git-traps"),
        (".git/modules/sub/commondir", "workspace-git-traps"),
        (".git/modules/sub/config.worktree", "workspace-git-traps"),
        (".git/modules/sub/hooks/post-checkout", "workspace-git-traps"),
        ("vendor/lib/.git/config", "workspace-repositories"),
        ("vendor/lib/.git/commondir", "workspace-repositories"),
        ("vendor/lib/.git/hooks/post-checkout", "workspace-repositories"),
        ("sub/.git", "workspace-repositories"),
        ("clone/.git/hooks/post-checkout", "workspace-git-hooks"),
        ("clone/.git/hooks/pre-commit", "workspace-git-hooks"),
        ("lefthook.yml", "workspace-traps-but-git"),
        ("deep/sitecustomize.py", "python-startup-files"),
    ] {
        assert!(denied.contains(&(path.to_owned(), policy)), "{path} by {policy}: {denied:#?}");
    }
    // In quiet mode, too: every one that was made.
    let place = |text: &str| words.find(text).unwrap_or_else(|| panic!("no {text}: {words}"));
    let order = ["repositories that were made", "again/sub/.git", "clone/.git/config"];
    assert!(order.map(place).is_sorted(), "{words}");
    assert!(!words.contains("vendor/lib/.git"), "{words}");

    // What the session did not plant does not run for whoever uses the repositories now.
    for repository in [workspace.clone(), workspace.join("vendor/lib"), directory.path().join("worktree")] {
        let mut git = Command::new("git");
        user::act(&mut git);
        environment(&mut git, &home);
        git.env("GIT_CEILING_DIRECTORIES", "/srv").args(["-c", "safe.directory=*", "status"]).current_dir(&repository);
        let output = git.output().expect("git starts");
        assert!(output.status.success(), "{}: {}", repository.display(), String::from_utf8_lossy(&output.stderr));
    }
    assert!(!marker.exists());
}
