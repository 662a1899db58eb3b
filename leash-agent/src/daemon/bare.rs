//! Sessions without a container: whether there can be one, what is said of it, and what the supervisor keeps in the container's place.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use super::layout::Layout;
use super::{Notices, Required, RunError};
use crate::enforce::supervised::{BoundsPlace, BoundsSpec};
use crate::sandbox::plan::{Bind, order_binds};
use crate::sandbox::{RUNTIME_DIR, SandboxError, possible_without_container};

/// What such a session doesn't have; the log's `container: false` stands for it.
pub(super) const LIMITS: &str = "the host's processes, /tmp, /dev and mounts instead of the session's own; the supervisor keeps what --ro, --rw \
    and the workspace say, Landlock keeps signals inside, and System V IPC, devices and programs that hide from it are refused \
    (docs/backends.md)";

/// Proof that it was found out and said.
#[derive(Debug)]
pub(super) struct Bare(());

impl Bare {
    /// A user namespace was refused. Says so, unless that is refused, too.
    pub(super) fn choose(refusal: Errno, required: Option<Required>, notices: &mut dyn Notices) -> Result<Self, RunError> {
        if required == Some(Required::Container) {
            return Err(RunError::Uncontained(refusal));
        }
        possible_without_container().map_err(|missing| SandboxError::NoWay { refusal, missing })?;
        notices.warning(&format!(
            "no container, because this machine refuses user namespaces ({refusal}): {LIMITS}; `--require container` refuses this, `leash \
             doctor` says more"
        ));
        Ok(Self(()))
    }

    /// What the mounts of the container would be, and where Leash's own files are. `left` is what earlier sessions left behind.
    pub(super) fn bounds(&self, layout: &Layout, runtime: &Path, left: &HashSet<PathBuf>) -> BoundsSpec {
        let mut private = vec!["/dev"];
        if layout.private_tmp {
            private.push("/tmp");
        }
        let own = private.iter().chain(&["/proc"]).map(|path| Bind { path: path.into(), writable: true });
        // A queue is changed by calls that are refused, and removed by none.
        let queues = Bind { path: "/dev/mqueue".into(), writable: false };
        let binds = order_binds(own.chain([queues]).chain(layout.binds.iter().cloned()).collect());
        let mut hidden: HashSet<PathBuf> = [runtime, Path::new(RUNTIME_DIR)].map(real).into();
        // What others have there already; a path that was asked for stays.
        let scratch: Vec<&str> = private.iter().map(|path| if *path == "/dev" { "/dev/shm" } else { path }).collect();
        for scratch in &scratch {
            let entries = std::fs::read_dir(scratch).into_iter().flatten().flatten().map(|entry| entry.path());
            let is_others = |entry: &PathBuf| !left.contains(entry) && !binds.iter().any(|bind| bind.path.starts_with(entry));
            hidden.extend(entries.filter(is_others));
        }
        let scratch = scratch.iter().map(|path| path.as_bytes().to_vec()).collect();
        let place = |bind: Bind| BoundsPlace {
            writable: bind.writable,
            private: private.iter().any(|path| bind.path == Path::new(path)),
            path: bytes(&real(&bind.path)),
        };
        let hidden = hidden.iter().map(|path| bytes(path)).collect();
        BoundsSpec { places: binds.into_iter().map(place).collect(), hidden, scratch, made: Arc::default() }
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}
