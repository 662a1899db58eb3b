//! The order of things, from the request to the report.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Instant, SystemTime};

use leash_policy::Variables;
use nix::unistd::Uid;

use super::as_user::FileSystemUser;
use super::backend::{self, Backend, Governed, Loading};
use super::bare::Bare;
use super::layout::{self, Layout};
use super::left;
use super::policies::{self, Policies, Ready};
use super::pump::{Ended, Pump, Streams};
use super::recorder::{Recorded, Recorder};
use super::{Notices, Outcome, RunError, RunRequest, hint};
use crate::audit::log::{LogError, LogWriter, create_log_dir};
use crate::audit::record::{Body, Mode, SessionEnd, SessionStart};
use crate::audit::summary::Ending;
use crate::audit::time::compact;
use crate::enforce::supervised::Floor;
use crate::sandbox::cgroup::Cgroup;
use crate::sandbox::plan::{Identity, Place, Plan};
use crate::sandbox::{Container, EXIT_LEASH, RUNTIME_DIR, SandboxError, StateDir, env, rootless, user};
use crate::words::Plain;

/// Runs one session. An error means that nothing of the command ran.
pub fn run(request: &RunRequest, notices: &mut dyn Notices) -> Result<Outcome, RunError> {
    run_here(request, notices).map_err(|error| match env::own_session() {
        Some(session) if error.exit_status() == EXIT_LEASH => RunError::Nested { session, source: Box::new(error) },
        _ => error,
    })
}

fn run_here(request: &RunRequest, notices: &mut dyn Notices) -> Result<Outcome, RunError> {
    let root = Uid::effective().is_root();
    let network = backend::load_early(request, root);
    let mut prepared = Prepared { network, ..Prepared::new(request, root)? };
    let session = session_id()?;
    let environment = env::build(std::env::vars_os(), &request.env, &prepared.user, &session)?;
    find_command(&request.command, &environment, &prepared.layout.workspace)?;
    if let Err(error) = prepared.layout.make_agent_state(&prepared.user, &prepared.policies.principal().name) {
        notices.info(&format!("{error}; what the agent keeps there will be lost"));
    }
    let backend = Backend::choose(request.backend, request.require, root, notices)?;
    if !root {
        match rootless::possible() {
            Ok(()) => rootless::enter()?,
            Err(refusal) => prepared.bare = Some(Bare::choose(refusal, request.require, notices)?),
        }
    }
    prepared.start(request, &session, environment, &backend, notices)
}

/// What can be found out without changing anything.
struct Prepared {
    user: Identity,
    layout: Layout,
    policies: Policies,
    ready: Ready,
    /// An ordinary user otherwise.
    root: bool,
    /// What there is in the place of a container, if there is none.
    bare: Option<Bare>,
    /// What is being loaded already.
    network: Option<Loading>,
}

impl Prepared {
    fn new(request: &RunRequest, root: bool) -> Result<Self, RunError> {
        let user = match &request.user {
            Some(text) => user::named(text)?,
            None => caller(root)?,
        };
        if !root && user.uid != Uid::effective().as_raw() {
            return Err(RunError::OtherUser(user.name));
        }
        let principal = policies::principal(request, &user)?;
        let mut layout = Layout::new(request, &user, &principal.name)?;
        let variables = layout::variables(Some(&layout.workspace), &user);
        let policies = Policies::new(request, &layout.workspace, Path::new(policies::SYSTEM_DIR), variables, principal)?;
        let ready = policies.compile(1)?;
        for path in policies.protected() {
            layout.protect_policy(path);
        }
        for path in &request.configuration {
            layout.protect_policy(&path.canonicalize().map_err(|source| RunError::Read { path: path.clone(), source })?);
        }
        Ok(Self { user, layout, policies, ready, root, bare: None, network: None })
    }

    /// Creates the log, and with it everything else.
    fn start(
        mut self,
        request: &RunRequest,
        session: &str,
        environment: Vec<Vec<u8>>,
        backend: &Backend,
        notices: &mut dyn Notices,
    ) -> Result<Outcome, RunError> {
        let log = open_log(request, &self.user, session, &self.policies.principal().name)?;
        let path = log.path().to_owned();
        if let Ok(path) = path.canonicalize() {
            self.layout.protect(&path);
        }
        self.govern(request, session, environment, backend, log, notices).inspect_err(|_| {
            // Nothing ran, so there is nothing to tell. If it can't be removed, it is at least empty or says so itself.
            let _ = std::fs::remove_file(&path);
        })
    }

    fn govern(
        self,
        request: &RunRequest,
        session: &str,
        environment: Vec<Vec<u8>>,
        backend: &Backend,
        mut log: LogWriter,
        notices: &mut dyn Notices,
    ) -> Result<Outcome, RunError> {
        warn(&self.ready.compiled, notices);
        let mode = Mode::from(request.mode);
        let started = Instant::now();
        // From here on the order of declarations is the order of taking down, reversed.
        let signals = super::pump::block_signals()?;
        let runtime = if self.root { PathBuf::from(RUNTIME_DIR) } else { rootless::runtime_dir()? };
        let state = StateDir::create(&runtime, session)?;
        let cgroup = if self.root { Some(Cgroup::create(session)?) } else { None };
        let (streams, stdio) = Streams::new()?;
        let environment = match backend {
            Backend::Supervised => env::for_supervised(environment),
            Backend::BpfLsm(..) => environment,
        };
        let mut plan = self.plan(request, session, environment, &state, cgroup.as_ref(), streams.terminal());
        let floor = backend.floor(mode, &self.ready, &|path| self.layout.changeable(path))?;
        plan.floor = floor.as_ref().map(|floor| floor.directories().to_vec()).unwrap_or_default();
        let cgroup_dir = cgroup.as_ref().map(Cgroup::dir);
        let (mut arming, socket) = backend.arm(cgroup_dir.as_deref(), mode, &self.ready, self.network)?;
        let mut container = Container::create(Path::new("/proc/self/exe"), plan, stdio, socket)?;
        let Self { user, layout, policies, ready, bare, .. } = self;
        let bounds = bare.as_ref().map(|bare| bare.bounds(&layout, &runtime, &left::find(&runtime)));
        let made = bounds.as_ref().map(|bounds| Arc::clone(&bounds.made));
        let (network, beneath) = arming.network(notices);
        let floors = (bare.is_none(), beneath);
        log.append(SystemTime::now(), start_record(request, backend, floors, &user, &layout, &policies, &ready))?;
        log.flush()?;
        let (cgroup_dir, init_pid) = (cgroup_dir.as_deref(), container.init_pid());
        let binds = if bare.is_none() { layout.binds.as_slice() } else { &[] };
        let governed = Governed { cgroup: cgroup_dir, init_pid, user: &user, mode, ready: &ready, bounds, binds };
        let guard = arming.register(governed, network)?;
        let (alarm, alarm_end) = UnixStream::pair().map_err(RunError::system("create a socket"))?;
        let recorder = Recorder::start(guard, log, ready, mode, alarm_end)?;

        let ended = {
            let mut reloads =
                Reloads { policies: &policies, layout: &layout, backend, mode, floor, recorder: &recorder, generation: 1 };
            let watched = if request.watch { policies.watched() } else { Vec::new() };
            match Pump::new(&mut container, signals, streams, alarm, &watched) {
                Ok(mut pump) => pump.run(&mut |notices| reloads.reload(notices), notices),
                Err(error) => Ended { status: EXIT_LEASH, error: Some(error) },
            }
        };
        // Whatever happened: first nothing of the session runs any more, then the record of it is closed.
        let ending = container.end();
        let killed = cgroup.as_ref().map_or(Ok(()), Cgroup::kill).and(ending);
        drop(container);
        if let Some(made) = made
            && let Err(error) = left::note(&runtime, session, &made.lock().unwrap_or_else(PoisonError::into_inner))
        {
            notices.warning(&format!("what this session left in /tmp will be hidden from later ones: {error}"));
        }
        let mut recorded = match recorder.stop() {
            Ok(recorded) => recorded,
            Err(error) => {
                let (report, notices) = (Plain::default(), Plain::default());
                return Ok(Outcome { status: EXIT_LEASH, report, notices, error: Some(error) });
            }
        };
        if let Some(error) = ended.error {
            recorded.error.get_or_insert(error);
        }
        if let Err(error) = killed {
            recorded.error.get_or_insert(error.into());
        }
        let outcome = finish(request, policies.profile_name(), recorded, ended.status, mode, started);
        drop(cgroup);
        drop(state);
        Ok(outcome)
    }

    fn plan(
        &self,
        request: &RunRequest,
        session: &str,
        env: Vec<Vec<u8>>,
        state: &StateDir,
        cgroup: Option<&Cgroup>,
        terminal: bool,
    ) -> Plan {
        Plan {
            session: session.to_owned(),
            state_dir: state.path().to_owned(),
            cgroup: cgroup.map(|cgroup| Place { mount: cgroup.mount().to_owned(), path: cgroup.path().to_owned() }),
            contained: self.bare.is_none(),
            binds: self.layout.binds.clone(),
            private_tmp: self.layout.private_tmp,
            user: self.user.clone(),
            workdir: self.layout.workspace.clone(),
            argv: request.command.iter().map(|word| word.as_bytes().to_vec()).collect(),
            env,
            terminal,
            supervisor: None,
            floor: Vec::new(),
        }
    }
}

/// Who started us.
pub(super) fn caller(root: bool) -> Result<Identity, SandboxError> {
    let variable = |name| std::env::var(name).ok().filter(|_| root);
    match variable("SUDO_UID") {
        Some(uid) => user::caller(Some(&uid), variable("SUDO_GID").as_deref()),
        // Our own environment is the caller's, so it knows better than the user database where home is.
        None => Ok(user::caller(None, None)?.at_home(std::env::var_os("HOME"))),
    }
}

/// Says what is valid in a policy, and yet hardly meant.
fn warn(policy: &leash_policy::Compiled, notices: &mut dyn Notices) {
    for warning in policy.warnings() {
        let place = warning.line_column().map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
        notices.info(&format!("warning: {}{place}: {warning}", warning.source_name()));
    }
}

/// Reads policies again while a session runs.
struct Reloads<'a> {
    policies: &'a Policies,
    layout: &'a Layout,
    backend: &'a Backend,
    mode: Mode,
    /// What the session stands on; nothing can raise it.
    floor: Option<Floor>,
    recorder: &'a Recorder,
    generation: u32,
}

impl Reloads<'_> {
    fn recompile(&self) -> Result<Ready, RunError> {
        let ready = self.policies.recompile(self.generation + 1, &self.layout.binds)?;
        if let Some(floor) = &self.floor
            && let Some(wanted) = self.backend.floor(self.mode, &ready, &|path| self.layout.changeable(path))?
            && let Some(beyond) = floor.lacks(&wanted)
        {
            return Err(RunError::BeyondFloor(beyond.to_owned()));
        }
        Ok(ready)
    }

    fn reload(&mut self, notices: &mut dyn Notices) {
        match self.recompile() {
            Ok(ready) => {
                self.generation += 1;
                notices.info(&format!("policy reloaded ({} policies)", ready.set.policies));
                warn(&ready.compiled, notices);
                self.recorder.install(ready);
            }
            Err(error) => {
                self.recorder.refused(error.to_string());
                notices.refused(&error);
            }
        }
    }
}

fn finish(request: &RunRequest, profile: Option<&str>, recorded: Recorded, status: i32, mode: Mode, started: Instant) -> Outcome {
    let Recorded { mut log, summary, notices, totals, error } = recorded;
    let status = if error.is_some() { EXIT_LEASH } else { status };
    let end = SessionEnd {
        status,
        error: error.as_ref().map(ToString::to_string),
        seconds: started.elapsed().as_secs_f64(),
        totals,
        actions: summary.actions().clone(),
    };
    let path = log.path().to_owned();
    // A log that can't be written to any more is the error that is reported already.
    let written = log.append(SystemTime::now(), Body::SessionEnd(Box::new(end))).and_then(|()| log.finish().map(drop));
    let error = match (error, written) {
        (None, Err(failed)) => Some(failed.into()),
        (error, _) => error,
    };
    let status = if error.is_some() { EXIT_LEASH } else { status };
    let log = hint::quoted(path.as_os_str());
    let (enforce_hint, permit_hint) = (hint::enforce(request, profile), hint::permit(request, profile));
    let ending = Ending { mode, totals: &totals, log: &log, enforce_hint: &enforce_hint, permit_hint: &permit_hint };
    // What isn't a path is an address or a socket, and goes with the session.
    let there = |name: &str| !name.starts_with('/') || Path::new(name).symlink_metadata().is_ok();
    Outcome { status, report: summary.report(&ending), notices: notices.report(totals.allow.dropped, &there), error }
}

fn start_record(
    request: &RunRequest,
    backend: &Backend,
    (container, network_floor): (bool, Option<&str>),
    user: &Identity,
    layout: &Layout,
    policies: &Policies,
    ready: &Ready,
) -> Body {
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    Body::SessionStart(Box::new(SessionStart {
        leash: env!("CARGO_PKG_VERSION").to_owned(),
        backend: backend.name().to_owned(),
        landlock_abi: backend.landlock_abi(),
        container,
        network_floor: network_floor.map(ToOwned::to_owned),
        kernel: kernel.unwrap_or_default(),
        mode: request.mode.into(),
        command: request.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        workspace: layout.workspace.to_string_lossy().into_owned(),
        user: user.name.clone(),
        uid: user.uid,
        profile: policies.profile_name().map(str::to_owned),
        principal: serde_json::to_value(policies.principal()).unwrap_or_default(),
        policies: ready.set.clone(),
    }))
}

/// A name that sorts by time and doesn't repeat.
fn session_id() -> Result<String, RunError> {
    let mut random = [0; 4];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut random))
        .map_err(RunError::system("read random numbers"))?;
    Ok(format!("{}-{}", compact(SystemTime::now()), crate::audit::record::hex(&random)))
}

fn open_log(request: &RunRequest, user: &Identity, session: &str, agent: &str) -> Result<LogWriter, LogError> {
    let owner = (user.uid, user.gid);
    match &request.log {
        Some(path) => LogWriter::create(path, owner, session, agent),
        None => {
            let (dir, theirs) = log_dir(user);
            // Below a home directory we do what its user could do, so that no link in it leads us elsewhere.
            let _as_user = theirs.then(|| FileSystemUser::of(user));
            create_log_dir(&dir, owner)?;
            LogWriter::create(&dir.join(format!("{session}.jsonl")), owner, session, agent)
        }
    }
}

/// The directory where the caller's logs are kept.
pub fn default_log_dir() -> Option<PathBuf> {
    Some(log_dir(&caller(Uid::effective().is_root()).ok()?).0)
}

/// What `${NAME}` in policies means in a session that the caller starts here.
pub fn own_variables() -> Result<Variables, RunError> {
    let user = caller(Uid::effective().is_root())?;
    // In a directory that is gone there is no workspace.
    let workspace = std::env::current_dir().and_then(|directory| directory.canonicalize()).ok();
    Ok(layout::variables(workspace.as_deref(), &user))
}

/// Directory of logs, and whether it belongs to the user.
fn log_dir(user: &Identity) -> (PathBuf, bool) {
    let own = Uid::current().as_raw() == user.uid;
    let state = std::env::var_os("XDG_STATE_HOME").filter(|_| own).map(PathBuf::from).filter(|path| path.is_absolute());
    match state {
        Some(state) => (state.join("leash"), true),
        None if user.home.is_dir() && user.home != Path::new("/") => (user.home.join(".local/state/leash"), true),
        None => ("/var/log/leash".into(), false),
    }
}

/// Finds the command as the session will, so that a typing error starts nothing.
fn find_command(command: &[std::ffi::OsString], env: &[Vec<u8>], workspace: &Path) -> Result<(), RunError> {
    let name = command.first().map_or(OsStr::new(""), |name| name.as_os_str());
    let shown = || name.to_string_lossy().into_owned();
    let candidates: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
        vec![workspace.join(name)]
    } else {
        let path = env.iter().find_map(|entry| entry.strip_prefix(b"PATH=")).unwrap_or_default();
        std::env::split_paths(OsStr::from_bytes(path)).map(|dir| workspace.join(dir).join(name)).collect()
    };
    let mut found = false;
    for candidate in candidates {
        if let Ok(metadata) = candidate.metadata()
            && !name.is_empty()
        {
            if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
                return Ok(());
            }
            found = true;
        }
    }
    Err(if found { RunError::NotExecutable(shown()) } else { RunError::NotFound(shown()) })
}

/// Makes a second descriptor for one of ours.
pub(super) fn duplicate(fd: impl AsFd) -> Result<OwnedFd, RunError> {
    fd.as_fd().try_clone_to_owned().map_err(RunError::system("duplicate a descriptor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str) -> Result<(), RunError> {
        find_command(&[name.into()], &[b"PATH=/usr/bin:/bin".to_vec()], Path::new("/etc"))
    }

    #[test]
    fn commands_are_found_as_the_session_will() {
        assert!(find("sh").is_ok());
        assert!(find("/bin/sh").is_ok());
        assert!(matches!(find("no-such-command"), Err(RunError::NotFound(_))));
        assert!(matches!(find(""), Err(RunError::NotFound(_))));
        assert!(matches!(find("./passwd"), Err(RunError::NotExecutable(_))));
        assert!(matches!(find("/etc"), Err(RunError::NotExecutable(_))));
    }

    #[test]
    fn session_names_do_not_repeat() {
        assert_ne!(session_id().unwrap(), session_id().unwrap());
    }
}
