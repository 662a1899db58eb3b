//! What sessions without a container left in `/tmp` and `/dev/shm`: it is theirs, so the user's later sessions find it, as programs with a directory
//! of their own there expect. What else is there stays hidden from them.
//!
//! Each session that left something has a file in Leash's own directory, which no session reaches.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// What the names of these files end in. They aren't in a directory, which would be taken for that of a session whose daemon is gone.
const EXTENSION: &str = "left";

/// One thing that was left, as it was then: its path may be something else's later.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Left {
    path: Vec<u8>,
    device: u64,
    inode: u64,
    born_ns: Option<u64>,
}

impl Left {
    fn at(path: &Path) -> Option<Self> {
        let found = path.symlink_metadata().ok()?;
        let born = found.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let born_ns = born.and_then(|time| time.as_nanos().try_into().ok());
        Some(Self { path: path.as_os_str().as_bytes().to_vec(), device: found.dev(), inode: found.ino(), born_ns })
    }
}

/// Paths at which is what earlier sessions left there. Files about what is gone are removed.
pub(super) fn find(runtime: &Path) -> HashSet<PathBuf> {
    let mut all = HashSet::new();
    let files = fs::read_dir(runtime).into_iter().flatten().flatten().map(|entry| entry.path());
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == EXTENSION)) {
        let left: Vec<Left> = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let there = left.into_iter().filter_map(|left| {
            let path = PathBuf::from(OsString::from_vec(left.path.clone()));
            (Left::at(&path).as_ref() == Some(&left)).then_some(path)
        });
        let before = all.len();
        all.extend(there);
        if all.len() == before {
            // What one session left another one may have listed, too, so nothing is lost.
            let _ = fs::remove_file(&file);
        }
    }
    all
}

/// Notes what is left of `made`, at the end of a session.
pub(super) fn note(runtime: &Path, session: &str, made: &HashSet<Vec<u8>>) -> std::io::Result<()> {
    let left: Vec<Left> = made.iter().filter_map(|path| Left::at(Path::new(&OsString::from_vec(path.clone())))).collect();
    if left.is_empty() {
        return Ok(());
    }
    fs::write(runtime.join(session).with_extension(EXTENSION), serde_json::to_vec(&left)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_left_is_found() {
        let (runtime, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| scratch.path().join(name);
        for name in ["kept", "replaced", "removed", "others"] {
            fs::create_dir(at(name)).unwrap();
        }
        let made = ["kept", "replaced", "removed", "never"].map(|name| at(name).into_os_string().into_vec()).into();
        note(runtime.path(), "one", &made).unwrap();
        fs::create_dir(at("new")).unwrap();
        fs::remove_dir(at("replaced")).unwrap();
        fs::rename(at("new"), at("replaced")).unwrap();
        fs::remove_dir(at("removed")).unwrap();
        assert_eq!(find(runtime.path()), [at("kept")].into());
        fs::remove_dir(at("kept")).unwrap();
        assert_eq!(find(runtime.path()), HashSet::new());
        assert_eq!(fs::read_dir(runtime.path()).unwrap().count(), 0, "a file about nothing stays");
    }
}
