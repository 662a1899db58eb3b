//! The complete description of one container, as the parent hands it to the launcher.
//!
//! It crosses a socket as one line of JSON. Arguments and variables are bytes, because Unix doesn't promise text; paths that
//! policies must be able to name are text.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What the launcher needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The session's id, also the container's and the cgroup's name.
    pub session: String,
    /// The session's directory; exists already.
    pub state_dir: PathBuf,
    /// The session's cgroup; `None` for an ordinary user, who may make none.
    pub cgroup: Option<Place>,
    /// Whether there is a container around the session; without one, binds and `private_tmp` make nothing.
    pub contained: bool,
    /// What is bound into the read-only root.
    pub binds: Vec<Bind>,
    /// Whether the session gets its own empty `/tmp`.
    pub private_tmp: bool,
    /// Who the command runs as.
    pub user: Identity,
    /// Working directory.
    pub workdir: PathBuf,
    /// The command and its arguments.
    pub argv: Vec<Vec<u8>>,
    /// The whole environment, `KEY=value`.
    pub env: Vec<Vec<u8>>,
    /// Whether the command gets a terminal of its own, whose master end goes to `console.sock` in `state_dir`.
    pub terminal: bool,
    /// Descriptor of the launcher, a socket over which the command's process sends the descriptor that its supervised calls arrive
    /// on. `None` where the kernel decides by itself.
    pub supervisor: Option<i32>,
    /// Directories below which a supervised command can ever start programs, all of them text; nothing else is beyond its floor.
    pub floor: Vec<PathBuf>,
}

/// A cgroup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Mount point of the cgroup v2 hierarchy.
    pub mount: PathBuf,
    /// Path below that mount, with a leading slash; exists already.
    pub path: PathBuf,
}

/// One path of the host that is bound at the same path in the container. Never at another: the kernel side relies on every
/// file having one path in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Canonical absolute path.
    pub path: PathBuf,
    /// Whether it can be written to.
    pub writable: bool,
}

/// A user with all its groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
    /// Login name, or the number where there is none.
    pub name: String,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

impl Identity {
    /// With another home directory, if that is one.
    pub fn at_home(mut self, home: Option<std::ffi::OsString>) -> Self {
        if let Some(home) = home.map(PathBuf::from).filter(|home| home.is_absolute() && home.is_dir()) {
            self.home = home;
        }
        self
    }
}

/// Orders binds so that an outer one never covers an inner one, and lets the last word on one path win.
pub fn order_binds(binds: Vec<Bind>) -> Vec<Bind> {
    let mut ordered: Vec<Bind> = Vec::with_capacity(binds.len());
    for bind in binds {
        ordered.retain(|earlier| earlier.path != bind.path);
        ordered.push(bind);
    }
    ordered.sort_by_key(|bind| bind.path.components().count());
    ordered
}

/// Whether `path` can be written to in a container with these binds (in the order of [`order_binds`]).
pub fn is_writable(binds: &[Bind], path: &Path) -> bool {
    binds.iter().rev().find(|bind| path.starts_with(&bind.path)).is_some_and(|bind| bind.writable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &str, writable: bool) -> Bind {
        Bind { path: path.into(), writable }
    }

    #[test]
    fn outer_binds_come_first_and_the_last_word_wins() {
        let ordered = order_binds(vec![
            bind("/w/.leash", false),
            bind("/w", true),
            bind("/home/u/.cache", false),
            bind("/home/u/.cache", true),
        ]);
        assert_eq!(ordered, vec![bind("/w", true), bind("/w/.leash", false), bind("/home/u/.cache", true)]);
    }

    #[test]
    fn the_innermost_bind_decides_what_is_writable() {
        let binds = order_binds(vec![bind("/w", true), bind("/w/.leash", false)]);
        assert!(is_writable(&binds, Path::new("/w/src/main.rs")));
        assert!(!is_writable(&binds, Path::new("/w/.leash/a.cedar")));
        assert!(!is_writable(&binds, Path::new("/wide")));
        assert!(!is_writable(&binds, Path::new("/etc/passwd")));
    }
}
