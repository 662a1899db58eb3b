//! The policies of a session: where they come from, and how they become tables.

use std::fs;
use std::path::{Path, PathBuf};

use leash_policy::{Compiled, Principal, Source, Variables, compile};
use sha2::{Digest, Sha256};

use super::layout::{PROJECT_DIR, replaceable};
use super::{RunError, RunRequest};
use crate::audit::record::{PolicySet, PolicySource, hex};
use crate::sandbox::plan::Bind;

/// The profile without `--policy` and `--profile`.
const DEFAULT_PROFILE: &str = "workspace";

/// Everything that a policy is compiled from. Kept, so that it can be compiled again when files changed.
#[derive(Debug)]
pub(super) struct Policies {
    profile: Option<&'static leash_policy::profile::Profile>,
    paths: Vec<PathBuf>,
    project: Option<PathBuf>,
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
        variables: Variables,
        principal: Principal,
    ) -> Result<Self, RunError> {
        let profile = profile_of(request)?;
        let mut paths = Vec::new();
        for path in &request.policies {
            paths.push(path.canonicalize().map_err(|source| RunError::Read { path: path.clone(), source })?);
        }
        let project = workspace.join(PROJECT_DIR);
        let project = project.is_dir().then_some(project);
        Ok(Self { profile, paths, project, variables, principal })
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
        self.paths.iter().chain(&self.project).cloned().collect()
    }

    /// Files and directories that the session must not be able to change.
    pub(super) fn protected(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Reads and compiles everything. `generation` counts up with each call that succeeds.
    pub(super) fn compile(&self, generation: u32) -> Result<Ready, RunError> {
        let mut sources = self.profile.map(leash_policy::profile::Profile::sources).unwrap_or_default();
        for path in &self.paths {
            sources.extend(read_all(path)?);
        }
        if let Some(project) = &self.project {
            let narrowing = read_all(project)?;
            self.check_narrows(&narrowing)?;
            sources.extend(narrowing);
        }
        let compiled =
            compile(&sources, &self.variables, &self.principal).map_err(|faults| RunError::Policy(Box::new(faults)))?;
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
        let loose = self.paths.iter().find(|path| replaceable(binds, path));
        match loose {
            Some(path) => Err(RunError::Writable(path.clone())),
            None => self.compile(generation),
        }
    }

    fn check_narrows(&self, sources: &[Source]) -> Result<(), RunError> {
        let compiled = compile(sources, &self.variables, &self.principal).map_err(|faults| RunError::Policy(Box::new(faults)))?;
        match compiled.policies().iter().find(|policy| policy.effect == leash_policy::Effect::Permit) {
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
            let text = fs::read(path).map_err(|source| RunError::Read { path: path.clone(), source })?;
            serde_json::from_slice(&text).map_err(|source| RunError::Principal { path: path.clone(), source })?
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

/// A file, or every `*.cedar` file of a directory, by name.
fn read_all(path: &Path) -> Result<Vec<Source>, RunError> {
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
    }
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).map_err(failed(&file))?;
            Ok(Source { name: file.to_string_lossy().into_owned(), text })
        })
        .collect()
}
