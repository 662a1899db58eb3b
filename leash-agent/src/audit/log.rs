//! The log file of a session: created before anything runs, appended to by one writer, never truncated.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::record::{Body, Record, VERSION};
use super::time::rfc3339;
use crate::words::json;

/// Why the log can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It can't be created.
    #[error("cannot create the log `{}`: {source}; choose another place with --log FILE", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It can't be appended to.
    #[error("cannot write to the log `{}`: {source}{}", path.display(), too_large(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What to do if a file may not grow any more (`ulimit -f`, setrlimit(2)); otherwise nothing.
pub(crate) fn too_large(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::FileTooLarge => "; raise the limit on the size of files (`ulimit -f`) for `leash run`",
        _ => "",
    }
}

/// Appends records.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    file: BufWriter<File>,
    next: u64,
    session: String,
    agent: String,
}

impl LogWriter {
    /// Creates `path`, which must not exist, readable and writable for `owner` (user and group) only.
    pub fn create(path: &Path, owner: (u32, u32), session: &str, agent: &str) -> Result<Self, LogError> {
        let failed = |source| LogError::Create { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
            .open(path)
            .map_err(failed)?;
        fchown(&file, Some(owner.0), Some(owner.1)).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            next: 0,
            session: session.to_owned(),
            agent: agent.to_owned(),
        })
    }

    /// Where the log is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one record. It reaches the file with the next [`LogWriter::flush`], or earlier.
    pub fn append(&mut self, time: SystemTime, body: Body) -> Result<(), LogError> {
        let record = Record {
            v: VERSION,
            seq: self.next,
            time: rfc3339(time),
            session: self.session.clone(),
            agent: self.agent.clone(),
            body,
        };
        serde_json::to_string(&record)
            .map_err(std::io::Error::from)
            .and_then(|line| writeln!(self.file, "{}", json::plain(&line)))
            .map_err(|source| LogError::Write { path: self.path.clone(), source })?;
        self.next += 1;
        Ok(())
    }

    /// Hands everything to the kernel.
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.file.flush().map_err(|source| LogError::Write { path: self.path.clone(), source })
    }

    /// Writes everything to the disk; the end of a log.
    pub fn finish(mut self) -> Result<PathBuf, LogError> {
        self.flush()?;
        match self.file.get_ref().sync_data() {
            // Pipes and some file systems can't; the records are with the kernel then.
            Ok(()) | Err(_) => Ok(self.path),
        }
    }
}

/// Creates the directory for logs of `owner`, with what is missing above it.
pub fn create_log_dir(dir: &Path, owner: (u32, u32)) -> Result<(), LogError> {
    let failed = |source| LogError::Create { path: dir.to_owned(), source };
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => std::os::unix::fs::lchown(dir, Some(owner.0), Some(owner.1)).map_err(failed)?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::{PolicyReload, PolicySet};

    fn owner() -> (u32, u32) {
        (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())
    }

    fn body() -> Body {
        Body::PolicyReload(PolicyReload {
            ok: true,
            policies: PolicySet { generation: 2, sources: Vec::new(), policies: 3 },
            error: None,
        })
    }

    #[test]
    fn records_are_numbered_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/log.jsonl");
        create_log_dir(path.parent().unwrap(), owner()).unwrap();
        let mut log = LogWriter::create(&path, owner(), "s", "agent").unwrap();
        log.append(SystemTime::now(), body()).unwrap();
        log.append(SystemTime::now(), body()).unwrap();
        log.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let numbers: Vec<u64> = text.lines().map(|line| serde_json::from_str::<Record>(line).unwrap().seq).collect();
        assert_eq!(numbers, [0, 1]);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_log_can_be_read_on_a_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut log = LogWriter::create(&path, owner(), "s", "agent").unwrap();
        for (hostile, _) in crate::words::tests::HOSTILE {
            let Body::PolicyReload(reload) = body() else { unreachable!() };
            log.append(SystemTime::now(), Body::PolicyReload(PolicyReload { error: Some(hostile.to_owned()), ..reload }))
                .unwrap();
        }
        log.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(crate::words::tests::is_inert(&text), "{text:?}");
        for (line, (hostile, _)) in text.lines().zip(crate::words::tests::HOSTILE) {
            let record: Record = serde_json::from_str(line).unwrap();
            assert!(matches!(record.body, Body::PolicyReload(reload) if reload.error.as_deref() == Some(hostile)), "{line}");
        }
    }

    #[test]
    fn an_existing_file_is_never_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "precious").unwrap();
        let error = LogWriter::create(&path, owner(), "s", "a").unwrap_err().to_string();
        assert!(error.contains("File exists") && error.contains("--log"), "{error}");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(LogWriter::create(&link, owner(), "s", "a").is_err());
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut log = LogWriter {
            path: "/dev/full".into(),
            file: BufWriter::new(OpenOptions::new().append(true).open("/dev/full").unwrap()),
            next: 0,
            session: String::new(),
            agent: String::new(),
        };
        log.append(SystemTime::now(), body()).unwrap();
        assert!(log.flush().unwrap_err().to_string().contains("No space left"));
    }
}
