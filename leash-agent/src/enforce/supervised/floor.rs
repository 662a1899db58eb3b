//! Where programs can be started at all: what the Landlock floor of a session grants.
//!
//! A floor can't be raised once it is laid, so it must reach as far as the policy ever does, and a little further: it is made of whole
//! directories. Below one whose entries the session can change, it takes all or nothing, because a directory that is made anew is
//! another one to Landlock. Elsewhere it goes down until it is worth no more. Whatever it doesn't know, it grants: the supervisor
//! decides in any case.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use leash_common::kind::Kind;
use leash_common::table::{Corrupt, Cursor, INDEX_MASK, LEAF, LEAF_ALLOW, SINK};

use super::super::error::Result;
use super::super::event::Mode;
use super::policy::Policy;

/// Directories that are listed before those that are left are taken whole.
const MAX_LISTED: usize = 1024;
/// Names below each other before a directory is taken whole.
const MAX_DEPTH: usize = 8;
/// States of the automaton that are looked at for one directory before it counts as one where programs can be started.
const MAX_STATES: usize = 2048;

/// Directories below which programs can be started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floor(Vec<PathBuf>);

impl Floor {
    /// That of a compiled policy. `changeable`: whether the session can change what is in a directory of the host.
    pub fn new(image: &[u64], mode: Mode, changeable: &dyn Fn(&Path) -> bool) -> Result<Self> {
        let policy = Policy::new(image, mode, 0)?;
        let mut search = Search { policy: &policy, changeable, listed: 0, found: Vec::new(), permits: HashMap::new() };
        if mode == Mode::Record {
            search.found.push("/".into());
        } else {
            search.directory(Path::new("/"), 0);
        }
        Ok(Self(search.found))
    }

    /// The directories.
    pub fn directories(&self) -> &[PathBuf] {
        &self.0
    }

    /// A directory of `wanted` that lies outside.
    pub fn lacks<'a>(&self, wanted: &'a Self) -> Option<&'a Path> {
        let covered = |path: &Path| self.0.iter().any(|own| path.starts_with(own));
        wanted.0.iter().map(PathBuf::as_path).find(|path| !covered(path))
    }
}

struct Search<'a> {
    policy: &'a Policy,
    changeable: &'a dyn Fn(&Path) -> bool,
    listed: usize,
    found: Vec<PathBuf>,
    /// What is known of rows. There are few, and many states have the same.
    permits: HashMap<u32, bool>,
}

/// What the policy says of the names below a directory.
struct Below {
    /// Some program can be started by some other one.
    some: bool,
    /// Every one can.
    all: bool,
}

impl Search<'_> {
    /// Looks at one directory.
    fn directory(&mut self, path: &Path, depth: usize) {
        let below = self.below(path).unwrap_or(Below { some: true, all: true });
        if !below.some {
            return;
        }
        let children = if below.all || (self.changeable)(path) { None } else { self.children(path, depth) };
        match children {
            Some(children) => children.iter().for_each(|child| self.directory(child, depth + 1)),
            None => self.found.push(path.to_owned()),
        }
    }

    /// The directories in one. `None`: it must be taken whole, for example because a program lies in it that can be started.
    fn children(&mut self, path: &Path, depth: usize) -> Option<Vec<PathBuf>> {
        self.listed += 1;
        if depth >= MAX_DEPTH || self.listed > MAX_LISTED {
            return None;
        }
        let mut children = Vec::new();
        for entry in path.read_dir().ok()? {
            let entry = entry.ok()?;
            let kind = entry.file_type().ok()?;
            // What has no name in UTF-8 is never permitted.
            let Some(child) = entry.path().to_str().map(PathBuf::from) else { continue };
            if kind.is_dir() {
                children.push(child);
            } else if kind.is_file()
                && entry.metadata().is_ok_and(|file| file.permissions().mode() & 0o111 != 0)
                && self.can(&child)
            {
                return None;
            }
        }
        Some(children)
    }

    /// Whether a program with this path can be started.
    fn can(&mut self, path: &Path) -> bool {
        let row = self.policy.row(path.as_os_str().as_encoded_bytes());
        row.is_ok_and(|row| self.permits(row).unwrap_or(true))
    }

    /// `None`: too much to look at.
    fn below(&mut self, path: &Path) -> Option<Below> {
        let path = path.to_str()?.trim_end_matches('/');
        let start = self.policy.name(format!("{path}/").as_bytes()).ok()?;
        let mut known = HashSet::new();
        let mut waiting = vec![start];
        let mut below = Below { some: false, all: true };
        while let Some(state) = waiting.pop() {
            // Most bytes lead where the one before does.
            let mut before = None;
            for byte in 1..=u8::MAX {
                let next = state.peek(byte);
                if before.replace(next) == Some(next) || !known.insert(next & INDEX_MASK) {
                    continue;
                }
                let cursor = Cursor::enter(self.policy, next).ok()?;
                let permits = self.permits(cursor.accept()).ok()?;
                below.some |= permits;
                below.all &= permits;
                if below.some && !below.all {
                    return Some(below);
                }
                if known.len() > MAX_STATES {
                    return None;
                }
                if next & SINK == 0 {
                    waiting.push(cursor);
                }
            }
        }
        Some(below)
    }

    /// Whether any program may start what has this row.
    fn permits(&mut self, row: u32) -> std::result::Result<bool, Corrupt> {
        if let Some(&known) = self.permits.get(&row) {
            return Ok(known);
        }
        let next = Cursor::enter(self.policy, row)?.peek(Kind::ProcessExec as u8 + 1);
        let permits = self.any(next, 2)?;
        self.permits.insert(row, permits);
        Ok(permits)
    }

    /// Whether a decision that is `levels` symbols away allows.
    fn any(&self, next: u32, levels: usize) -> std::result::Result<bool, Corrupt> {
        if next & LEAF != 0 {
            return Ok(next & LEAF_ALLOW != 0);
        }
        if levels == 0 {
            return Err(Corrupt);
        }
        let state = Cursor::enter(self.policy, next)?;
        let mut known = HashSet::new();
        // Symbols of the halves of a program's class are 1 to 128; 0 is the header, whose lower half is what others lead to.
        for symbol in 1..=128 {
            let next = state.peek(symbol);
            if known.insert(next) && self.any(next, levels - 1)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The floor of a policy over a directory with `closed`, `open/sub` and a program in `open`, as names in it.
    fn floor(policy: &str, changeable: &[&str], mode: Mode) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap().to_owned();
        for name in ["closed", "open/sub"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::copy("/bin/true", dir.path().join("open/program")).unwrap();
        let source = leash_policy::Source { name: "p".into(), text: policy.replace("ROOT", &root) };
        let compiled =
            leash_policy::compile(&[source], &leash_policy::Variables::default(), &leash_policy::Principal::default()).unwrap();
        let changes = |path: &Path| changeable.iter().any(|name| path == dir.path().join(name));
        let floor = Floor::new(compiled.image(), mode, &changes).unwrap();
        floor.0.iter().map(|path| path.to_str().unwrap().replacen(&root, "ROOT", 1)).collect()
    }

    const BELOW: &str = "permit(principal, action, resource in Dir::\"ROOT/open/sub\");";

    #[test]
    fn only_directories_below_which_programs_can_be_started_are_granted() {
        assert_eq!(floor(BELOW, &[], Mode::Enforce), ["ROOT/open/sub"]);
        let file = "permit(principal, action, resource == File::\"ROOT/open/program\");";
        assert_eq!(floor(file, &[], Mode::Enforce), ["ROOT/open"]);
        let reads = "permit(principal, action == Action::\"FileRead\", resource);";
        assert!(floor(reads, &[], Mode::Enforce).is_empty());
        let by_one = "permit(principal, action, resource in Dir::\"ROOT/closed\") when { context.exe == \"/bin/sh\" };";
        assert_eq!(floor(by_one, &[], Mode::Enforce), ["ROOT/closed"]);
        assert_eq!(floor("permit(principal, action, resource);", &[], Mode::Enforce), ["/"]);
    }

    #[test]
    fn what_the_session_can_make_anew_is_granted_whole() {
        assert_eq!(floor(BELOW, &["open"], Mode::Enforce), ["ROOT/open"]);
        assert_eq!(floor(BELOW, &["closed"], Mode::Enforce), ["ROOT/open/sub"]);
    }

    #[test]
    fn nothing_is_ruled_out_where_nothing_is_denied() {
        assert_eq!(floor(BELOW, &[], Mode::Record), ["/"]);
    }

    #[test]
    fn a_floor_knows_what_lies_outside() {
        let floor = |paths: &[&str]| Floor(paths.iter().map(PathBuf::from).collect());
        let own = floor(&["/usr", "/w/a"]);
        assert_eq!(own.lacks(&floor(&["/usr/bin", "/w/a"])), None);
        assert_eq!(own.lacks(&floor(&["/usr", "/w/ab"])), Some(Path::new("/w/ab")));
        assert_eq!(own.lacks(&floor(&["/"])), Some(Path::new("/")));
    }
}
