//! Configuration files: defaults for the options of `leash run`. What the command line or a variable says wins over them, and the
//! caller's own file wins over the machine's where it couldn't weaken it.
//!
//! The caller's file is read with the caller's rights, and so is every file that it names: under `sudo`, a file in a home directory
//! is no way to have root read for its owner.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::Uid;
use serde::Deserialize;

use super::as_user::as_user;
use super::policies::SYSTEM_DIR;
use super::{BackendChoice, ModeChoice, Required, RunError, session};
use crate::sandbox::plan::Identity;

const NAME: &str = "config.toml";

/// Options of `leash run`, as far as something says them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each has the name of its option")]
pub struct Defaults {
    pub policy: Option<Vec<PathBuf>>,
    pub profile: Option<String>,
    pub mode: Option<ModeChoice>,
    pub agent: Option<String>,
    pub principal: Option<PathBuf>,
    #[serde(default)]
    pub ro: Vec<PathBuf>,
    #[serde(default)]
    pub rw: Vec<PathBuf>,
    #[serde(default)]
    pub env: Vec<String>,
    pub backend: Option<BackendChoice>,
    pub require: Option<Required>,
    pub watch: Option<bool>,
    /// Whose rights `policy` is read with, if not those of this process.
    #[serde(skip)]
    pub policy_reader: Option<Identity>,
    /// The same for `principal`.
    #[serde(skip)]
    pub principal_reader: Option<Identity>,
    /// The files that were read.
    #[serde(skip)]
    pub files: Vec<PathBuf>,
}

/// A file: a table for each command.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    run: Defaults,
}

/// Reads the machine's file and the caller's.
pub fn read() -> Result<Defaults, RunError> {
    let caller = session::caller(Uid::effective().is_root())?;
    both(&Path::new(SYSTEM_DIR).join(NAME), own_file(&caller, std::env::var_os("XDG_CONFIG_HOME")).as_deref(), &caller)
}

/// Where the caller's file is. Their variable is theirs only if this process is, and a home directory only if it belongs to them: `su`
/// and its like leave another user's in `$HOME`.
fn own_file(caller: &Identity, config_home: Option<OsString>) -> Option<PathBuf> {
    let own = Uid::current().as_raw() == caller.uid;
    let base = config_home.filter(|_| own).map(PathBuf::from).filter(|path| path.is_absolute());
    let at_home = || caller.home.metadata().is_ok_and(|home| home.uid() == caller.uid).then(|| caller.home.join(".config"));
    Some(base.or_else(at_home)?.join("leash").join(NAME))
}

fn both(system: &Path, own: Option<&Path>, caller: &Identity) -> Result<Defaults, RunError> {
    let machine = one(system, caller, None)?;
    // A reader is needed only by root; for everybody else the process has the rights that count.
    let reader = (Uid::effective().is_root() && caller.uid != 0).then_some(caller);
    let own = own.map(|own| one(own, caller, Some(reader))).transpose()?.flatten();
    match own {
        Some(own) => own.over(machine.unwrap_or_default(), system),
        None => Ok(machine.unwrap_or_default()),
    }
}

/// One file, if it is there. `own` is set for the caller's, with whose rights it is read.
fn one(path: &Path, caller: &Identity, own: Option<Option<&Identity>>) -> Result<Option<Defaults>, RunError> {
    let fault = |fault: String| RunError::Config { path: path.to_owned(), fault };
    let reader = own.flatten();
    let read = as_user(reader, || -> std::io::Result<(Metadata, String)> {
        // Neither a link to elsewhere nor a pipe that nobody writes to.
        let mut file: File = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        let mut text = String::new();
        if metadata.is_file() {
            file.read_to_string(&mut text)?;
        }
        Ok((metadata, text))
    });
    let (metadata, text) = match read {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(fault("is a link; put the file itself there".into()));
        }
        other => other.map_err(|error| fault(format!("cannot be read: {error}")))?,
    };
    if let Some(words) = distrust(&metadata, own.map(|_| caller)) {
        return Err(fault(words.into()));
    }
    let tables: Tables = toml::from_str(&text).map_err(|error| {
        let line = error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
        fault(format!("is not valid in line {line}: {}", error.message()))
    })?;
    let mut found = tables.run;
    for path in found.policy.iter_mut().flatten().chain(&mut found.principal).chain(&mut found.ro).chain(&mut found.rw) {
        *path = absolute(path, &caller.home)
            .ok_or_else(|| fault(format!("names `{}`; write it as an absolute path, or with `~/` in front", path.display())))?;
    }
    if found.profile.is_none() && found.policy.as_ref().is_some_and(Vec::is_empty) {
        return Err(fault("has an empty list for `policy`; leave it out".into()));
    }
    found.policy_reader = found.policy.as_ref().and(reader.cloned());
    found.principal_reader = found.principal.as_ref().and(reader.cloned());
    found.files = vec![path.to_owned()];
    Ok(Some(found))
}

/// Why a file isn't believed, if it isn't. `owner` is whose it may be besides root's.
fn distrust(metadata: &Metadata, owner: Option<&Identity>) -> Option<&'static str> {
    let own_group = owner.is_some_and(|owner| owner.gid == metadata.gid());
    if !metadata.is_file() {
        Some("is not a file")
    } else if metadata.uid() != 0 && owner.is_none_or(|owner| owner.uid != metadata.uid()) {
        Some("belongs to somebody else; it must be yours or root's")
    } else if metadata.mode() & 0o002 != 0 || metadata.mode() & 0o020 != 0 && metadata.gid() != 0 && !own_group {
        Some("can be written to by others; take that away with `chmod go-w`")
    } else {
        None
    }
}

fn absolute(path: &Path, home: &Path) -> Option<PathBuf> {
    match path.strip_prefix("~") {
        Ok(rest) => Some(home.join(rest)),
        Err(_) => path.is_absolute().then(|| path.to_owned()),
    }
}

impl Defaults {
    /// This, the caller's file, over the machine's, which lies at `system`. What that one says can be made narrower, not wider.
    fn over(self, machine: Self, system: &Path) -> Result<Self, RunError> {
        let contradicted = [
            ("policy", machine.chooses() && self.policy.as_ref().is_some_and(|own| machine.policy.as_ref() != Some(own))),
            ("profile", machine.chooses() && self.profile.as_ref().is_some_and(|own| machine.profile.as_ref() != Some(own))),
            ("mode", self.mode != Some(ModeChoice::Enforce) && contradicts(&self.mode, &machine.mode)),
            ("agent", contradicts(&self.agent, &machine.agent)),
            ("principal", contradicts(&self.principal, &machine.principal)),
            ("backend", contradicts(&self.backend, &machine.backend)),
            ("require", contradicts(&self.require, &machine.require)),
            ("rw", !machine.rw.is_empty() && !self.rw.iter().all(|path| machine.rw.contains(path))),
            ("env", !machine.env.is_empty() && !self.env.iter().all(|variable| machine.env.contains(variable))),
        ];
        if let Some((key, _)) = contradicted.into_iter().find(|(_, contradicted)| *contradicted) {
            let path = self.files.into_iter().next().unwrap_or_default();
            let fault = format!(
                "sets `{key}`, of which `{}` says something else; leave it out there, or give the option to this one run",
                system.display()
            );
            return Err(RunError::Config { path, fault });
        }
        let chosen = if self.chooses() && !machine.chooses() { &self } else { &machine };
        let (policy, profile, policy_reader) = (chosen.policy.clone(), chosen.profile.clone(), chosen.policy_reader.clone());
        let from_machine = machine.principal.is_some();
        Ok(Self {
            policy,
            profile,
            policy_reader,
            mode: self.mode.or(machine.mode),
            agent: machine.agent.or(self.agent),
            principal_reader: if from_machine { None } else { self.principal_reader },
            principal: machine.principal.or(self.principal),
            ro: [machine.ro, self.ro].concat(),
            rw: [machine.rw, self.rw].concat(),
            env: [machine.env, self.env].concat(),
            backend: machine.backend.or(self.backend),
            require: machine.require.or(self.require),
            watch: self.watch.or(machine.watch),
            files: [machine.files, self.files].concat(),
        })
    }

    /// Whether it says which policies apply: `policy` and `profile` are one choice.
    fn chooses(&self) -> bool {
        self.policy.is_some() || self.profile.is_some()
    }
}

fn contradicts<T: PartialEq>(own: &Option<T>, machine: &Option<T>) -> bool {
    own.is_some() && machine.is_some() && own != machine
}

#[cfg(test)]
mod tests;
