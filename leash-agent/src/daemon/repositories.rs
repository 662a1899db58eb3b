//! The repositories in a workspace when its session starts: what git would run of theirs is forbidden by name.
//!
//! By pattern that can't be: a clone inside of the session must be able to make its own `config`, and a new worktree its `commondir`.
//! What was there before has both already. Deleting stays permitted, because what is gone runs nothing and can't be made again.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use leash_policy::{Source, Variables};

/// Directories below the workspace that are looked through: nearest ones first, and no more entries than cost a few milliseconds. What lies
/// deeper is told of at the session's end.
const DEPTH: usize = 4;
const ENTRIES: usize = 4_000;
/// Repositories and worktrees that are forbidden one by one.
const MOST: usize = 256;
/// What of a git directory decides which programs git runs.
const PARTS: [&str; 6] = ["config", "config.worktree", "commondir", "gitdir", "hooks", "info/attributes"];

/// The policy, with values for the variables in it; `None` where there is nothing to forbid.
pub(super) fn policy(workspace: &Path) -> Option<(Source, Variables)> {
    let mut places = String::new();
    let mut values = Variables::default();
    let found = find(workspace).into_iter().filter_map(|path| path.to_str().map(str::to_owned));
    for (number, path) in found.take(MOST).enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(places, "File::\"${{REPOSITORY{number}}}\",");
        values.0.insert(format!("REPOSITORY{number}"), path);
    }
    let below = PARTS.map(|part| places.replace("}\",", &format!("}}/{part}\",")).replace("File::", "Dir::")).concat();
    let text = format!(
        "@id(\"workspace-repositories\")\n\
         @reason(\"git would run what this says, outside the sandbox, in a repository that was there before the session\")\n\
         forbid (principal, action in [Action::\"FileWrite\", Action::\"FileCreate\", Action::\"FileRename\", Action::\"FileLink\", \
         Action::\"FileSetAttributes\"], resource)\nwhen {{ resource in [{below}] || \
         [{places}].contains(resource) }};\n"
    );
    (!places.is_empty()).then(|| (Source { name: "profiles/repositories.cedar".into(), text }, values))
}

/// Git directories and links to such (`.git`, either of them) and the directories of linked worktrees. The workspace's own `.git` has policies
/// in the profile, and is looked into for its worktrees only.
fn find(workspace: &Path) -> Vec<PathBuf> {
    let mut found = worktrees(&workspace.join(".git"));
    let mut waiting: VecDeque<(usize, PathBuf)> = [(0, workspace.to_owned())].into();
    let mut left = ENTRIES;
    while let Some((depth, directory)) = waiting.pop_front() {
        // What can't be read by us can hardly be changed by the session, which is no more than its user.
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Some(rest) = left.checked_sub(1) else { return found };
            left = rest;
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if entry.file_name() == ".git" {
                if depth > 0 {
                    found.push(entry.path());
                    found.extend(worktrees(&entry.path()));
                }
            } else if is_directory && depth < DEPTH {
                waiting.push_back((depth + 1, entry.path()));
            }
        }
    }
    found
}

/// The directories that linked worktrees of a repository have in it.
fn worktrees(git: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(git.join("worktrees")).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    entries.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_forbidden_and_what_is_new_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = dir.path().canonicalize().unwrap();
        for made in [".git/worktrees/wt", "a/b/.git/worktrees/x", "odd\"*${X}/.git", "1/2/3/4/.git", "1/2/3/4/5/.git", "plain"] {
            fs::create_dir_all(workspace.join(made)).unwrap();
        }
        fs::create_dir(workspace.join("sub")).unwrap();
        fs::write(workspace.join("sub/.git"), "gitdir: ../.git/modules/sub").unwrap();
        let (source, variables) = policy(&workspace).unwrap();
        let permit = Source { name: "all.cedar".into(), text: "permit(principal, action, resource);".into() };
        let compiled = leash_policy::compile(&[source, permit], &variables, &leash_policy::Principal::default()).unwrap();
        let allowed = |action: &str, path: &str| {
            let path = workspace.join(path).to_str().unwrap().to_owned();
            let request = leash_policy::Request::new(action, leash_policy::Resource::File { path }, "/usr/bin/git").unwrap();
            compiled.decide(&request).verdict == leash_policy::Verdict::Allow
        };
        for path in [
            ".git/worktrees/wt/commondir",
            ".git/worktrees/wt/config",
            "a/b/.git",
            "a/b/.git/config",
            "a/b/.git/hooks/pre-commit",
            "a/b/.git/worktrees/x/gitdir",
            "odd\"*${X}/.git/info/attributes",
            "1/2/3/4/.git/config",
            "sub/.git",
        ] {
            for action in ["FileWrite", "FileCreate", "FileRename", "FileLink"] {
                assert!(!allowed(action, path), "{action} {path}");
            }
            assert!(allowed("FileDelete", path) && allowed("FileRead", path), "{path}");
        }
        assert!(!allowed("FileSetAttributes", "a/b/.git/hooks/x") && allowed("FileSetAttributes", "a/b/.git/index"));
        for path in [
            ".git/worktrees/new/commondir",
            "new/.git/config",
            "a/b/.git/index",
            "plain/config",
            "oddx/.git/info/attributes",
            "1/2/3/4/5/.git/config",
        ] {
            assert!(allowed("FileWrite", path), "{path}");
        }
    }

    #[test]
    fn a_workspace_without_others_needs_no_policy() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".git/hooks")).unwrap();
        assert!(policy(dir.path()).is_none());
        assert!(policy(&dir.path().join("none")).is_none());
    }
}
