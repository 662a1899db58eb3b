//! What of the host a session can write to, and what it reads its policy's variables from.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use leash_policy::Variables;

use super::as_user::FileSystemUser;
use super::{RunError, RunRequest};
use crate::sandbox::plan::{Bind, Identity, is_writable, order_binds};

/// Caches of tools below the home directory. They stay writable, or ordinary builds would fail; the policy says what in them is
/// not (programs on PATH, credentials).
const CACHES: &[&str] = &[
    ".cache",
    ".npm",
    ".yarn",
    ".pnpm-store",
    ".local/share/pnpm",
    ".local/state/pnpm",
    ".local/share/uv",
    ".cargo/registry",
    ".cargo/git",
    ".cargo/.package-cache",
    ".cargo/.package-cache-mutate",
    ".cargo/.global-cache",
    "go/pkg",
    ".gradle",
    ".m2/repository",
    ".nuget",
    ".bun/install/cache",
    ".ivy2",
    ".sbt",
    ".stack",
    ".cabal",
    ".hex",
    ".mix",
];

/// Where agents keep their state below the home directory, by the agent's name: first the directory, then what else there may be.
const AGENT_STATE: &[(&str, &[&str])] = &[
    ("claude", &[".claude", ".claude.json"]),
    ("codex", &[".codex"]),
    ("gemini", &[".gemini"]),
    ("aider", &[".aider", ".aider.conf.yml"]),
    ("mini-swe-agent", &[".config/mini-swe-agent"]),
];

/// Directory of a project with policies that narrow a session. Never writable in one.
pub(super) const PROJECT_DIR: &str = ".leash";

/// Trees that a session has of its own.
const REPLACED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Where the session works, and its binds.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) workspace: PathBuf,
    pub(super) binds: Vec<Bind>,
    pub(super) private_tmp: bool,
}

impl Layout {
    pub(super) fn new(request: &RunRequest, user: &Identity, agent: &str) -> Result<Self, RunError> {
        let workspace = workspace(request.workspace.as_deref())?;
        if !request.allow_home {
            refuse_home(&workspace, user)?;
        }
        let mut binds = Vec::new();
        let home = user.home.canonicalize().unwrap_or_else(|_| user.home.clone());
        let state = AGENT_STATE.iter().find(|(name, _)| *name == agent).map_or(&[] as &[&str], |(_, paths)| paths);
        for name in CACHES.iter().chain(state) {
            let path = home.join(name);
            // A symlink could lead anywhere, and would give its target a second path.
            if path.canonicalize().is_ok_and(|real| real == path) {
                binds.push(Bind { path, writable: true });
            }
        }
        binds.push(Bind { path: workspace.clone(), writable: true });
        for path in &request.writable {
            binds.push(Bind { path: bindable(path)?, writable: true });
        }
        let project = workspace.join(PROJECT_DIR);
        if project.canonicalize().is_ok_and(|real| real == project) {
            binds.push(Bind { path: project, writable: false });
        }
        for path in &request.read_only {
            binds.push(Bind { path: bindable(path)?, writable: false });
        }
        let binds = order_binds(binds);
        let private_tmp = !binds.iter().any(|bind| bind.path == Path::new("/tmp"));
        Ok(Self { workspace, binds, private_tmp })
    }

    /// Makes the state directory of a named agent where it is missing, as it is at the first run, and makes it writable.
    pub(super) fn make_agent_state(&mut self, user: &Identity, agent: &str) -> Result<(), RunError> {
        let home = user.home.canonicalize().unwrap_or_else(|_| user.home.clone());
        let Some(name) = AGENT_STATE.iter().find(|(name, _)| *name == agent).and_then(|(_, paths)| paths.first()) else {
            return Ok(());
        };
        let path = home.join(name);
        // Something else in its place, a link for example, is the user's own decision, and was looked at already.
        if path.symlink_metadata().is_ok() {
            return Ok(());
        }
        let made = {
            let _as_user = FileSystemUser::of(user);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).and_then(|()| path.canonicalize())
        };
        match made {
            Ok(real) if real == path => {
                self.binds.push(Bind { path, writable: true });
                self.binds = order_binds(std::mem::take(&mut self.binds));
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(source) => Err(RunError::AgentState { path, source }),
        }
    }

    /// Whether a session may find other names in the directory `path` than the host has there now, or make some.
    pub(super) fn changeable(&self, path: &Path) -> bool {
        let own = REPLACED.iter().any(|tree| path.starts_with(tree)) || self.private_tmp && path.starts_with("/tmp");
        own || is_writable(&self.binds, path)
    }

    /// Makes the file `path` readable only, if it lies where the session can write.
    pub(super) fn protect(&mut self, path: &Path) {
        if is_writable(&self.binds, path) {
            self.binds.push(Bind { path: path.to_owned(), writable: false });
            self.binds = order_binds(std::mem::take(&mut self.binds));
        }
    }

    /// Makes a policy readable only: its directory, so that nothing can be put in its place, or the file alone where that
    /// directory is one that the session must be able to write to.
    pub(super) fn protect_policy(&mut self, path: &Path) {
        let dir = if path.is_dir() { Some(path) } else { path.parent() };
        match dir.filter(|dir| !self.binds.iter().any(|bind| bind.path.starts_with(dir))) {
            Some(dir) => self.protect(dir),
            None if path.is_dir() => {}
            None => self.protect(path),
        }
    }
}

/// Whether a session with these binds could put another policy in the place of `path`.
pub(super) fn replaceable(binds: &[Bind], path: &Path) -> bool {
    // A bind over the file protects this file, but not its name: whoever replaces the file from outside takes the bind away
    // with it. A read-only directory around it does protect the name.
    let dir = if path.is_dir() { Some(path) } else { path.parent() };
    dir.is_some_and(|dir| is_writable(binds, dir))
}

fn workspace(chosen: Option<&Path>) -> Result<PathBuf, RunError> {
    let chosen = chosen.unwrap_or(Path::new("."));
    let fault = |fault: String| RunError::Workspace { path: chosen.to_owned(), fault };
    let path = chosen.canonicalize().map_err(|error| fault(format!("cannot be used: {error}")))?;
    if !path.is_dir() {
        return Err(fault("is not a directory".into()));
    }
    if path.to_str().is_none() {
        return Err(fault("has a name that is not UTF-8, so no policy could speak of it".into()));
    }
    if path == Path::new("/") || is_special(&path) {
        return Err(fault(format!("is `{}`, which cannot be a workspace; choose a project's directory", path.display())));
    }
    Ok(path)
}

/// Fails where the workspace is a home directory of the user, or lies above it: the one of this session, and that of the user database.
/// Directories are compared, not names, so that a bind mount makes no difference.
fn refuse_home(workspace: &Path, user: &Identity) -> Result<(), RunError> {
    let identity = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino())).ok();
    let registered = nix::unistd::User::from_uid(user.uid.into()).ok().flatten().map(|entry| entry.dir);
    let own = identity(workspace);
    for home in std::iter::once(user.home.clone()).chain(registered) {
        let Ok(home) = home.canonicalize() else { continue };
        // Users without a home directory have the root, or one that everybody shares.
        if home != Path::new("/") && home.ancestors().any(|above| above == workspace || identity(above) == own) {
            return Err(RunError::HomeWorkspace { path: workspace.to_owned(), home });
        }
    }
    Ok(())
}

fn bindable(path: &Path) -> Result<PathBuf, RunError> {
    let fault = |fault: String| RunError::Bind { path: path.to_owned(), fault };
    let real = path.canonicalize().map_err(|error| fault(error.to_string()))?;
    if real.to_str().is_none() {
        return Err(fault("its name is not UTF-8, so no policy could speak of it".into()));
    }
    if real == Path::new("/") || is_special(&real) {
        return Err(fault("it is the container's own".into()));
    }
    Ok(real)
}

/// Trees that every session has its own of.
fn is_special(path: &Path) -> bool {
    ["/proc", "/sys", "/dev", crate::sandbox::RUNTIME_DIR].iter().any(|tree| path.starts_with(tree))
}

/// The variables that policies may name. A path that isn't UTF-8 has none: what speaks of it is refused, and not taken for another one.
pub(super) fn variables(workspace: Option<&Path>, user: &Identity) -> Variables {
    let home = user.home.canonicalize().unwrap_or_else(|_| user.home.clone());
    let exact = |path: &Path| path.to_str().map(str::to_owned);
    let below = |name: &str| exact(&home.join(name));
    let mut values: BTreeMap<String, String> = [
        ("HOME", exact(&home)),
        ("WORKSPACE", workspace.and_then(exact)),
        ("TMPDIR", Some("/tmp".to_owned())),
        ("USER", Some(user.name.clone())),
        ("UID", Some(user.uid.to_string())),
        ("XDG_CONFIG_HOME", below(".config")),
        ("XDG_CACHE_HOME", below(".cache")),
        ("XDG_DATA_HOME", below(".local/share")),
        ("XDG_STATE_HOME", below(".local/state")),
        ("XDG_RUNTIME_DIR", Some(format!("/run/user/{}", user.uid))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect();
    let resolvers = resolvers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    for (index, address) in resolvers.into_iter().enumerate() {
        values.insert(format!("DNS{}", index + 1), address);
    }
    Variables(values)
}

/// The first three name servers of resolv.conf(5); loopback, its default, where there are fewer.
fn resolvers(text: &str) -> [String; 3] {
    let mut found = text.lines().filter_map(|line| {
        let address = line.strip_prefix("nameserver")?.split_whitespace().next()?;
        address.parse::<std::net::IpAddr>().ok().map(|address| address.to_string())
    });
    std::array::from_fn(|_| found.next().unwrap_or_else(|| "127.0.0.1".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(home: &Path) -> Identity {
        Identity { uid: 1000, gid: 1000, groups: vec![1000], name: "ann".into(), home: home.into(), shell: "/bin/sh".into() }
    }

    #[test]
    fn caches_and_the_workspace_are_writable_and_project_policies_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap();
        let workspace = home.join("w");
        for path in [".cache", ".claude", "w/.leash", "elsewhere"] {
            fs::create_dir_all(home.join(path)).unwrap();
        }
        std::os::unix::fs::symlink(home.join("elsewhere"), home.join(".npm")).unwrap();
        let request = RunRequest { workspace: Some(workspace.clone()), ..RunRequest::default() };
        let layout = Layout::new(&request, &user(&home), "claude").unwrap();
        let expected = [(".cache", true), (".claude", true), ("w", true), ("w/.leash", false)];
        let expected: Vec<Bind> =
            expected.iter().map(|(name, writable)| Bind { path: home.join(name), writable: *writable }).collect();
        assert_eq!(layout.binds, expected);
        assert!(layout.private_tmp);
    }

    #[test]
    fn the_state_directory_of_a_named_agent_is_made_by_its_user() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let root = nix::unistd::Uid::effective().is_root();
        let (uid, gid) = if root { (54321, 54321) } else { (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()) };
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let home = dir.path().canonicalize().unwrap().join("home");
        // What the user may not write to.
        let closed = dir.path().canonicalize().unwrap().join("closed");
        for (path, owner) in [(&home, (uid, gid)), (&home.join("w"), (uid, gid)), (&closed, (0, 0))] {
            fs::create_dir(path).unwrap();
            if root {
                chown(path, Some(owner.0), Some(owner.1)).unwrap();
            }
        }
        fs::set_permissions(&closed, PermissionsExt::from_mode(0o555)).unwrap();
        let user = Identity { uid, gid, groups: vec![gid], name: "ann".into(), home: home.clone(), shell: "/bin/sh".into() };
        let request = RunRequest { workspace: Some(home.join("w")), ..RunRequest::default() };
        let mut layout = Layout::new(&request, &user, "codex").unwrap();
        assert!(!is_writable(&layout.binds, &home.join(".codex")));
        layout.make_agent_state(&user, "codex").unwrap();
        assert!(is_writable(&layout.binds, &home.join(".codex")));
        let made = fs::metadata(home.join(".codex")).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (uid, gid, 0o700));
        // A link that leads elsewhere: nothing is made there, and nothing there is bound.
        std::os::unix::fs::symlink(&closed, home.join(".config")).unwrap();
        let mut layout = Layout::new(&request, &user, "mini-swe-agent").unwrap();
        let error = layout.make_agent_state(&user, "mini-swe-agent").unwrap_err().to_string();
        assert!(error.contains(".config/mini-swe-agent") && error.contains("Permission denied"), "{error}");
        assert_eq!(fs::read_dir(&closed).unwrap().count(), 0);
        std::os::unix::fs::symlink(closed.join("gemini"), home.join(".gemini")).unwrap();
        let mut layout = Layout::new(&request, &user, "gemini").unwrap();
        layout.make_agent_state(&user, "gemini").unwrap();
        assert!(!closed.join("gemini").exists() && !is_writable(&layout.binds, &closed.join("gemini")));
        layout.make_agent_state(&user, "unknown").unwrap();
    }

    #[test]
    fn impossible_workspaces_are_refused() {
        for bad in ["/", "//", "/./", "/proc", "/dev/shm", "/etc/passwd", "/no/such/dir"] {
            let request = RunRequest { workspace: Some(bad.into()), ..RunRequest::default() };
            let error = Layout::new(&request, &user(Path::new("/nonexistent")), "agent").unwrap_err();
            assert_eq!(error.exit_status(), 2, "{error}");
        }
    }

    #[test]
    fn a_workspace_that_holds_the_home_directory_is_refused_unless_it_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("home/ann/project")).unwrap();
        std::os::unix::fs::symlink(top.join("home/ann"), top.join("link")).unwrap();
        let user = user(&top.join("link"));
        let new = |workspace: &Path, allow_home| {
            let request = RunRequest { workspace: Some(workspace.into()), allow_home, ..RunRequest::default() };
            Layout::new(&request, &user, "agent")
        };
        for bad in ["home/ann", "home/ann/", "home/ann/.", "home/ann/project/..", "home", "link", "link/", "."] {
            let error = new(&top.join(bad), false).unwrap_err();
            assert_eq!(error.exit_status(), 2, "{bad}: {error}");
            assert!(error.to_string().contains("--allow-home"), "{bad}: {error}");
            assert!(new(&top.join(bad), true).is_ok(), "{bad}");
        }
        for good in ["home/ann/project", "link/project"] {
            assert_eq!(new(&top.join(good), false).unwrap().workspace, top.join("home/ann/project"), "{good}");
        }
    }

    #[test]
    fn policies_in_the_workspace_cannot_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = dir.path().canonicalize().unwrap();
        fs::create_dir(workspace.join("policies")).unwrap();
        let (inner, outer) = (workspace.join("policies/a.cedar"), workspace.join("b.cedar"));
        for file in [&inner, &outer] {
            fs::write(file, "").unwrap();
        }
        let request = RunRequest { workspace: Some(workspace.clone()), ..RunRequest::default() };
        let mut layout = Layout::new(&request, &user(Path::new("/nonexistent")), "agent").unwrap();
        for policy in [&inner, &outer, &workspace, Path::new("/etc/hosts")] {
            layout.protect_policy(policy);
        }
        for file in [&inner, &outer, &workspace.join("policies/new")] {
            assert!(!is_writable(&layout.binds, file));
        }
        assert!(is_writable(&layout.binds, &workspace));
        assert!(!replaceable(&layout.binds, &inner));
        assert!(replaceable(&layout.binds, &outer));
        assert!(!replaceable(&layout.binds, Path::new("/etc/hosts")));
    }

    #[test]
    fn a_path_that_is_no_text_has_no_variable() {
        use std::os::unix::ffi::OsStrExt;
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"/h\xff"));
        let names = |workspace, home| variables(workspace, &user(home)).0.into_keys().collect::<Vec<_>>();
        let all = names(Some(Path::new("/w")), Path::new("/h"));
        assert!(["HOME", "WORKSPACE", "XDG_CONFIG_HOME", "USER", "DNS1"].iter().all(|name| all.contains(&(*name).to_owned())));
        let left = names(Some(odd), odd);
        assert!(["HOME", "WORKSPACE", "XDG_CONFIG_HOME"].iter().all(|name| !left.contains(&(*name).to_owned())), "{left:?}");
        assert!(left.contains(&"DNS1".to_owned()) && !names(None, odd).contains(&"WORKSPACE".to_owned()));
    }

    #[test]
    fn name_servers_are_read() {
        let text = "# nameserver 1.1.1.1\nnameserver 10.0.0.2\nnameserver bad\nnameserver fe80::1\n";
        assert_eq!(resolvers(text), ["10.0.0.2", "fe80::1", "127.0.0.1"]);
    }
}
