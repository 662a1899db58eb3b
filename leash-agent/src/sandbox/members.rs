//! Who belongs to a session without a pid namespace, and the end of them all.
//!
//! A process that adopts orphans is an ancestor of everything that was ever started below it, so what it can't find below itself any more
//! doesn't exist any more.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, getpid};

/// How long to wait for processes that were killed.
const DYING: Duration = Duration::from_millis(1);

/// A living process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    pid: i32,
    group: i32,
}

/// Ends everything below this process, which must adopt orphans, and returns when nothing is left. What a dying process has started meanwhile
/// is found in the next round.
pub(super) fn end_all() {
    let own_group = getpgrp().as_raw();
    loop {
        let childless = reap();
        let members = below(getpid().as_raw());
        if childless && members.is_empty() {
            return;
        }
        for member in &members {
            // The kernel lets no process of a group that is being killed start another one. A group of ours would be ourselves.
            if member.group != own_group && member.group > 1 {
                let _ = killpg(Pid::from_raw(member.group), Signal::SIGKILL);
            }
            let _ = kill(Pid::from_raw(member.pid), Signal::SIGKILL);
        }
        if members.is_empty() {
            // The last ones are on their way out.
            std::thread::sleep(DYING);
        }
    }
}

/// Reaps who ended. Whether there is no child left.
fn reap() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return false,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return true,
        }
    }
}

/// Everything that lives below `ancestor`.
fn below(ancestor: i32) -> Vec<Member> {
    let mut children: HashMap<i32, Vec<(Member, bool)>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        // Who ended meanwhile has no children any more.
        let Ok(text) = fs::read(format!("/proc/{pid}/stat")) else { continue };
        if let Some((parent, group, alive)) = stat(&String::from_utf8_lossy(&text)) {
            children.entry(parent).or_default().push((Member { pid, group }, alive));
        }
    }
    let (mut found, mut parents) = (Vec::new(), vec![ancestor]);
    while let Some(parent) = parents.pop() {
        for (member, alive) in children.remove(&parent).unwrap_or_default() {
            parents.push(member.pid);
            found.extend(alive.then_some(member));
        }
    }
    found
}

/// Parent, process group, and whether the process lives, proc_pid_stat(5). The program's name may hold anything; it ends at the last
/// parenthesis.
fn stat(text: &str) -> Option<(i32, i32, bool)> {
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?, !matches!(state, "Z" | "X")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_s_name_misleads_nobody() {
        assert_eq!(stat("12 (a) S 1 1 (b) R 34 56 78 0"), Some((34, 56, true)));
        assert_eq!(stat("12 (a) Z 34 56 78 0"), Some((34, 56, false)));
        assert_eq!(stat("12"), None);
    }

    #[test]
    fn children_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = below(getpid().as_raw());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.iter().any(|member| member.pid == child.id() as i32), "{found:?}");
    }
}
