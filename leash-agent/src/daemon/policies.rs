//! The policies of a session: where they come from, and how they become tables.

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use leash_policy::{Compiled, Principal, Source, Variables, compile};
use sha2::{Digest, Sha256};

use super::as_user::as_user;
use super::layout::{PROJECT_DIR, replaceable};
use super::{RunError, RunRequest, repositories};
use crate::audit::record::{PolicySet, PolicySource, hex};
use crate::sandbox::plan::{Bind, Identity};

/// The profile without `--policy` and `--profile`.
const DEFAULT_PROFILE: &str = "workspace";

/// Where the machine's administrators put policies that every session gets. Like a project's, they may only forbid.
pub(super) const SYSTEM_DIR: &str = "/etc/leash";

/// Everything that a policy is compiled from. Kept, so that it can be compiled again when files changed.
#[derive(Debug)]
pub(super) struct Policies {
    profile: Option<&'static leash_policy::profile::Profile>,
    paths: Vec<PathBuf>,
    /// Whose rights they are read with, if not ours.
    reader: Option<Identity>,
    /// The administrators' directory, which need not exist.
    system: PathBuf,
    project: Option<PathBuf>,
    /// About the repositories that the workspace holds, where a profile applies.
    repositories: Option<Source>,
    variables: Variables,
    principal: Principal,
}

/// A policy that can be installed.
pub(super) struct Ready {
    pub(super) compiled: Compiled,
    pub(super) set: PolicySet,
}

impl Policies {
    pub(super) fn new(
        request: &RunRequest,
        workspace: &Path,
        system: &Path,
        mut variables: Variables,
        principal: Principal,
    ) -> Result<Self, RunError> {
        let profile = profile_of(request)?;
        let repositories = profile.and_then(|_| repositories::policy(workspace)).map(|(source, values)| {
            variables.0.extend(values.0);
            source
        });
        let mut paths = Vec::new();
        for path in &request.policies {
            let real = as_user(request.policy_reader.as_ref(), || path.canonicalize());
            paths.push(real.map_err(|source| RunError::Read { path: path.clone(), source })?);
        }
        let project = workspace.join(PROJECT_DIR);
        let project = project.is_dir().then_some(project);
        // A link to another place is followed once, so that what is protected is what is read.
        let system = match system.canonicalize() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && system.symlink_metadata().is_err() => system.to_owned(),
            real => real.map_err(|source| RunError::Read { path: system.to_owned(), source })?,
        };
        let reader = request.policy_reader.clone();
        Ok(Self { profile, paths, reader, system, project, repositories, variables, principal })
    }

    /// Name of the profile, if one applies.
    pub(super) fn profile_name(&self) -> Option<&'static str> {
        self.profile.map(|profile| profile.name)
    }

    /// The principal.
    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Every file and directory that a change of policy would show in.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let system = self.system.exists().then_some(&self.system);
        self.paths.iter().chain(&self.project).chain(system).cloned().collect()
    }

    /// Files and directories that the session must not be able to change.
    pub(super) fn protected(&self) -> impl Iterator<Item = &PathBuf> {
        self.paths.iter().chain(self.system.exists().then_some(&self.system))
    }

    /// Reads and compiles everything. `generation` counts up with each call that succeeds.
    pub(super) fn compile(&self, generation: u32) -> Result<Ready, RunError> {
        let mut sources = self.profile.map(leash_policy::profile::Profile::sources).unwrap_or_default();
        sources.extend(self.repositories.clone());
        let mut chosen = Vec::new();
        for path in &self.paths {
            chosen.extend(as_user(self.reader.as_ref(), || read_all(path))?);
        }
        let names: HashSet<String> = chosen.iter().map(|source| source.name.clone()).collect();
        sources.extend(chosen);
        for source in self.administrators()? {
            self.check_narrows(std::slice::from_ref(&source))?;
            sources.push(source);
        }
        if let Some(project) = &self.project {
            let narrowing = read_all(project)?;
            self.check_narrows(&narrowing)?;
            sources.extend(narrowing);
        }
        let compiled = self.compiled(&sources)?;
        // Whoever names policies and has none mistook the place, or is still writing.
        if !self.paths.is_empty() && !compiled.policies().iter().any(|policy| names.contains(&policy.source)) {
            return Err(RunError::no_policy(&self.paths));
        }
        let set = PolicySet {
            generation,
            policies: compiled.stats().policies,
            sources: sources
                .iter()
                .map(|source| PolicySource { name: source.name.clone(), sha256: hex(&Sha256::digest(source.text.as_bytes())) })
                .collect(),
        };
        Ok(Ready { compiled, set })
    }

    /// Like [`Policies::compile`] for a session that runs: what the agent could have written is not read again.
    pub(super) fn recompile(&self, generation: u32, binds: &[Bind]) -> Result<Ready, RunError> {
        let loose = self.protected().find(|path| replaceable(binds, path));
        match loose {
            Some(path) => Err(RunError::Writable(path.clone())),
            None => self.compile(generation),
        }
    }

    /// What the administrators' directory holds: nothing if it doesn't exist. Whatever else keeps it from being read is an error.
    fn administrators(&self) -> Result<Vec<Source>, RunError> {
        match self.system.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(RunError::Read { path: self.system.clone(), source }),
            Ok(_) => read_all(&self.system),
        }
    }

    fn compiled(&self, sources: &[Source]) -> Result<Compiled, RunError> {
        compile(sources, &self.variables, &self.principal).map_err(|faults| RunError::Policy(Box::new(faults)))
    }

    fn check_narrows(&self, sources: &[Source]) -> Result<(), RunError> {
        match self.compiled(sources)?.policies().iter().find(|policy| policy.effect == leash_policy::Effect::Permit) {
            Some(policy) => Err(RunError::Widens { source_name: policy.source.clone(), policy: policy.id.clone() }),
            None => Ok(()),
        }
    }
}

/// The profile that applies: the one asked for; the default one unless policies take its place.
fn profile_of(request: &RunRequest) -> Result<Option<&'static leash_policy::profile::Profile>, RunError> {
    let name = match &request.profile {
        Some(name) => name.as_str(),
        None if request.policies.is_empty() => DEFAULT_PROFILE,
        None => return Ok(None),
    };
    match leash_policy::profile::find(name) {
        Some(profile) => Ok(Some(profile)),
        None => {
            let known: Vec<&str> = leash_policy::profile::PROFILES.iter().map(|profile| profile.name).collect();
            Err(RunError::Profile { name: name.to_owned(), known: known.join(", ") })
        }
    }
}

/// The principal of a session: from its file if there is one, with what only we know filled in.
pub(super) fn principal(request: &RunRequest, user: &crate::sandbox::plan::Identity) -> Result<Principal, RunError> {
    let mut principal = match &request.principal {
        Some(path) => {
            let text = as_user(request.principal_reader.as_ref(), || fs::read_to_string(path))
                .map_err(|source| RunError::Read { path: path.clone(), source })?;
            Principal::from_json(&text).map_err(|source| RunError::Principal { path: path.clone(), source })?
        }
        None => Principal::default(),
    };
    let by_profile = || profile_of(request).ok().flatten().and_then(|profile| profile.agent).map(str::to_owned);
    if let Some(name) = request.agent.clone().or_else(|| if request.principal.is_none() { by_profile() } else { None }) {
        principal.name = name;
    }
    principal.user.clone_from(&user.name);
    principal.uid = user.uid;
    Ok(principal)
}

/// The text of a file, which may be no longer than what is compiled.
fn read_text(file: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let limit = leash_policy::MAX_TEXT_BYTES as u64;
    fs::File::open(file)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let message = format!("it is larger than {limit} bytes, the limit for policies");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(bytes).map_err(|fault| std::io::Error::new(std::io::ErrorKind::InvalidData, fault.utf8_error()))
}

/// A file, or every `*.cedar` file of a directory, by name.
pub fn read_all(path: &Path) -> Result<Vec<Source>, RunError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RunError::Read { path, source }
    };
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        files = fs::read_dir(path)
            .map_err(failed(path))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed(path))?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "cedar"));
        files.sort();
        // A pipe or a device of that name would keep us waiting.
        if let Some(file) = files.iter().find(|file| fs::metadata(file).is_ok_and(|metadata| !metadata.is_file())) {
            return Err(failed(file)(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no regular file")));
        }
    }
    files
        .into_iter()
        .map(|file| {
            let text = read_text(&file).map_err(failed(&file))?;
            Ok(Source { name: file.to_string_lossy().into_owned(), text })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORBID: &str = "@id(\"house\") forbid(principal, action, resource in Dir::\"/srv\");";

    fn policies(system: &Path, workspace: &Path) -> Result<Policies, RunError> {
        let policy = workspace.join("own.cedar");
        fs::write(&policy, "@id(\"own\") permit(principal, action, resource);").unwrap();
        let request = RunRequest { policies: vec![policy], ..RunRequest::default() };
        Policies::new(&request, workspace, system, Variables::default(), Principal::default())
    }

    fn ids(ready: &Ready) -> Vec<&str> {
        ready.compiled.policies().iter().map(|policy| policy.id.as_str()).collect()
    }

    #[test]
    fn the_administrators_forbids_always_apply() {
        let dir = tempfile::tempdir().unwrap();
        let (system, workspace) = (dir.path().join("leash"), dir.path().join("w"));
        fs::create_dir(&workspace).unwrap();
        assert_eq!(ids(&policies(&system, &workspace).unwrap().compile(1).unwrap()), ["own"]);
        fs::create_dir(&system).unwrap();
        fs::write(system.join("house.cedar"), FORBID).unwrap();
        fs::write(system.join("notes.txt"), "no policy").unwrap();
        let with = policies(&system, &workspace).unwrap();
        assert_eq!(ids(&with.compile(1).unwrap()), ["own", "house"]);
        assert!(
            with.protected().any(|path| path.ends_with("leash")) && with.watched().iter().any(|path| path.ends_with("leash"))
        );
        // A session that could put other policies there reads none again.
        let loose = [Bind { path: dir.path().canonicalize().unwrap(), writable: true }];
        assert!(matches!(with.recompile(2, &loose), Err(RunError::Writable(_))));
    }

    #[test]
    fn what_is_wrong_with_the_administrators_policies_starts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (system, workspace) = (dir.path().join("leash"), dir.path().join("w"));
        for path in [&system, &workspace] {
            fs::create_dir(path).unwrap();
        }
        let file = system.join("house.cedar");
        for (text, named) in
            [("permit(principal, action, resource);", "may only forbid"), ("forbid(principal", "cannot be enforced")]
        {
            fs::write(&file, text).unwrap();
            let error = policies(&system, &workspace).unwrap().compile(1).err().unwrap();
            assert!(error.to_string().contains(named) && error.exit_status() == 3, "{error}");
        }
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/no/such/file", &file).unwrap();
        assert!(matches!(policies(&system, &workspace).unwrap().compile(1), Err(RunError::Read { .. })));
        let gone = dir.path().join("gone");
        std::os::unix::fs::symlink("/no/such/dir", &gone).unwrap();
        assert!(matches!(policies(&gone, &workspace), Err(RunError::Read { .. })));
    }
}
