//! What `leash run` needs of a machine, one check each, with what to do where it is missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::Uid;

use crate::enforce::{Engine, lsm, network_available, supervised};
use crate::sandbox::{NAMESPACE_REMEDY, cgroup, env, floor, possible_without_container, rootless};

use super::bare;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to change.
    pub remedy: Option<String>,
}

impl Check {
    fn new(name: &'static str, ok: bool, found: impl Into<String>, remedy: &str) -> Self {
        Self { name, ok, found: found.into(), remedy: (!ok).then(|| remedy.to_owned()) }
    }
}

/// The oldest kernel with all hooks and helpers, as major and minor version.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// What was found out about this machine.
pub struct Findings {
    /// Everything that was looked at.
    pub checks: Vec<Check>,
    /// The backend that `leash run` takes by itself; `None` if it can't enforce.
    pub backend: Option<&'static str>,
    /// Whether its sessions have a container.
    pub container: bool,
}

/// What the supervised backend doesn't promise; the kernel's programs do.
pub const SUPERVISED_LIMITS: &str = "the backend supervised gives the same verdicts and refuses what it can't mediate: io_uring, ptrace, \
    mounts, namespaces, 32-bit and x32 system calls, system calls that it doesn't know, Landlock of programs' own, recvmmsg; each decided call \
    costs some tens of microseconds (docs/backends.md, SECURITY.md)";

/// What a session without a container doesn't have.
pub const BARE_LIMITS: &str = bare::LIMITS;

/// Looks at everything. The check of the programs loads and attaches them, and takes them away again; that of sessions runs one.
pub fn all() -> Findings {
    let root = Uid::effective().is_root();
    let mut shared = vec![privileges(root)];
    if root {
        // An ordinary user's sessions have none.
        shared.push(cgroups());
    }
    let (supervision, landlock) = (supervision(), landlock());
    let namespaces = if root { None } else { Some(namespaces()) };
    let container = namespaces.as_ref().is_none_or(|check| check.ok);
    if !container {
        shared.push(without_container());
    }
    let kernel_side = [kernel(), type_information(), lsm_list(), bpf_file_system(), programs(root), depths()];
    let fine = |checks: &[Check]| checks.iter().all(|check| check.ok);
    let possible = match (fine(&shared), fine(&kernel_side), supervision.ok) {
        (true, true, _) => Some("bpf-lsm"),
        (true, false, true) => Some("supervised"),
        _ => None,
    };
    let tried = possible.map(|_| session());
    let backend = possible.filter(|_| tried.as_ref().is_some_and(|tried| tried.ok));
    let floors = [supervision, landlock].into_iter().chain(network(root));
    let checks = kernel_side.into_iter().chain(shared).chain(namespaces).chain(floors).chain(tried).collect();
    Findings { checks, backend, container }
}

/// What else it takes to make a container (capabilities, cgroups that can be written to, mounts) shows where one is made.
fn session() -> Check {
    let remedy = "mend what it names; where something is refused, run leash as root with all capabilities and a cgroup file system that \
        it can write to (docker and podman: --privileged), or as an ordinary user";
    match try_session() {
        Ok(()) => Check::new("session", true, "a command ran in one", ""),
        Err(words) => Check::new("session", false, words, remedy),
    }
}

/// Runs `true` as `leash run` runs it by itself, recorded, so that no policy is in its way.
fn try_session() -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot try one: {error}");
    let workspace = tempfile::Builder::new().prefix("leash-doctor-").tempdir_in("/tmp").map_err(failed)?;
    // The command may run as somebody else.
    fs::set_permissions(workspace.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["run", "--quiet", "--mode", "record", "--backend", "auto", "--profile", "workspace"]);
    command.arg("--log").arg(workspace.path().join("log.jsonl")).arg("--workspace").arg(workspace.path()).args(["--", "true"]);
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let said = words.lines().filter_map(|line| line.strip_prefix("leash: ")).next_back();
    Err(said.map_or_else(|| format!("a command did not run in one ({})", output.status), |said| said.trim().to_owned()))
}

fn supervision() -> Check {
    match supervised::available() {
        Ok(()) => Check::new("supervision", true, "system calls can be answered by a supervisor", ""),
        Err(error) => {
            Check::new("supervision", false, error.to_string(), "use Linux 6.0 or later, built with CONFIG_SECCOMP_FILTER=y")
        }
    }
}

/// The floor under supervised sessions, which go on without it.
fn landlock() -> Check {
    let name = "Landlock";
    match floor::abi() {
        Some(abi) => Check::new(name, true, format!("ABI {abi}, the floor under sessions of the backend supervised"), ""),
        None => {
            let remedy = "build the kernel with CONFIG_SECURITY_LANDLOCK=y and have `landlock` in the list of `lsm=`; sessions of the \
                backend supervised have nothing below the supervisor without it";
            Check::new(name, false, "none, or not in the LSM list", remedy)
        }
    }
}

/// A session under the backend supervised goes without it where it can't be had.
fn network(root: bool) -> Option<Check> {
    if !root {
        return None;
    }
    let name = format!("doctor-{}", std::process::id());
    let attached = match cgroup::Cgroup::create(&name) {
        Ok(cgroup) => network_available(&cgroup.dir()).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    Some(match attached {
        Ok(found) => Check::new("network programs", true, found, ""),
        Err(error) => Check::new(
            "network programs",
            false,
            error,
            "mend the cgroups above first, or use a kernel built with CONFIG_CGROUP_BPF=y; until then the supervisor alone decides \
             about the network",
        ),
    })
}

fn kernel() -> Check {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let ok = version(&release).is_some_and(|version| version >= OLDEST_KERNEL);
    let machine = std::env::consts::ARCH;
    Check::new("kernel", ok && machine == "x86_64", format!("{release} on {machine}"), "use Linux 6.1 or later on x86_64")
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn type_information() -> Check {
    let path = "/sys/kernel/btf/vmlinux";
    let found = fs::metadata(path);
    let words = found.as_ref().map_or_else(|error| format!("{path}: {error}"), |file| format!("{path}, {} bytes", file.len()));
    Check::new(
        "type information",
        found.is_ok(),
        words,
        "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions ship it",
    )
}

fn lsm_list() -> Check {
    match lsm::list() {
        Ok(list) => lsm_check(&list),
        Err(error) => Check::new(
            "LSM list",
            false,
            format!("{}: {error}", lsm::LIST),
            "mount securityfs: mount -t securityfs securityfs /sys/kernel/security (as root)",
        ),
    }
}

fn lsm_check(list: &str) -> Check {
    let ok = lsm::has_bpf(list);
    let remedy = format!(
        "boot with `lsm={list},bpf` on the kernel's command line (on Debian and Ubuntu: GRUB_CMDLINE_LINUX in /etc/default/grub, \
         then update-grub), in a kernel built with CONFIG_BPF_LSM=y"
    );
    Check::new("LSM list", ok, list, &remedy)
}

fn bpf_file_system() -> Check {
    let path = "/sys/fs/bpf";
    let ok = statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC);
    let found = if ok { format!("mounted at {path}") } else { format!("none at {path}") };
    Check::new("BPF file system", ok, found, "mount it: mount -t bpf bpf /sys/fs/bpf (as root)")
}

fn cgroups() -> Check {
    let mount = cgroup::mount_point();
    let found = match &mount {
        Ok(Some(mount)) => format!("version 2 at {}", mount.display()),
        Ok(None) => "version 2 is not mounted".to_owned(),
        Err(error) => error.to_string(),
    };
    let remedy = "mount it: mount -t cgroup2 none /sys/fs/cgroup (as root), or boot with systemd.unified_cgroup_hierarchy=1";
    Check::new("cgroups", matches!(mount, Ok(Some(_))), found, remedy)
}

/// The kernel's programs look for a session at its depth; the supervisor doesn't.
fn depths() -> Check {
    let ok = crate::enforce::sees_the_whole_tree();
    let found =
        if ok { "the machine's own cgroup namespace" } else { "a cgroup namespace of its own, where depths can't be told" };
    let remedy = "run leash in the machine's own cgroup namespace (docker and podman: --cgroupns=host)";
    Check::new("cgroup depths", ok, found, remedy)
}

fn privileges(root: bool) -> Check {
    let contained = Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists();
    let place = match (env::own_session(), contained) {
        (Some(session), _) => format!(", in the session `{session}` of Leash, where no other can be had"),
        (None, true) => ", in a container".to_owned(),
        (None, false) => String::new(),
    };
    if root {
        return Check::new("privileges", true, format!("root{place}"), "");
    }
    Check::new("privileges", true, format!("an ordinary user{place}"), "")
}

/// Where they are refused, there is still a session without a container.
fn namespaces() -> Check {
    match rootless::possible() {
        Ok(()) => Check::new("container", true, "user namespaces, and /proc in them", ""),
        Err(errno) => Check::new("container", false, format!("no user namespaces ({errno})"), NAMESPACE_REMEDY),
    }
}

fn without_container() -> Check {
    match possible_without_container() {
        Ok(()) => Check::new("without container", true, "Landlock keeps processes together", ""),
        Err(missing) => Check::new("without container", false, missing.to_string(), NAMESPACE_REMEDY),
    }
}

fn programs(root: bool) -> Check {
    if !root {
        return Check::new(
            "BPF LSM programs",
            false,
            "only root can load them",
            "use sudo: the command under `sudo leash run` still runs as you",
        );
    }
    match Engine::open() {
        Ok(_) => Check::new("BPF LSM programs", true, "load and attach", ""),
        Err(error) => Check::new(
            "BPF LSM programs",
            false,
            error.to_string(),
            "mend the checks above first; where they are all right, the machine's owner refuses BPF LSM programs (many managed \
             hosts do), and leash run takes the backend supervised",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_by_number() {
        for (release, expected) in
            [("6.1.0-40-amd64", true), ("6.12.5", true), ("7.2-rc1", true), ("5.10.0", false), ("x", false)]
        {
            assert_eq!(version(release).is_some_and(|version| version >= OLDEST_KERNEL), expected, "{release}");
        }
    }

    #[test]
    fn an_lsm_list_without_bpf_has_a_remedy() {
        assert!(lsm_check("lockdown,capability,bpf").ok);
        let missing = lsm_check("lockdown,capability");
        assert!(!missing.ok && missing.remedy.unwrap().contains("lsm=lockdown,capability,bpf"));
    }

    #[test]
    fn every_failed_check_has_a_remedy() {
        for check in [
            kernel(),
            type_information(),
            lsm_list(),
            bpf_file_system(),
            cgroups(),
            depths(),
            privileges(true),
            namespaces(),
            without_container(),
            programs(false),
        ] {
            assert_eq!(check.ok, check.remedy.is_none(), "{check:?}");
        }
    }
}
