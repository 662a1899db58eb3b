//! The OCI runtime specification of a session, for libcontainer.

use std::path::{Path, PathBuf};

use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::{
    Arch, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxSeccompAction,
    LinuxSeccompBuilder, LinuxSyscallBuilder, Mount, MountBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use nix::libc;
use nix::unistd::Group;

use super::plan::Plan;
use super::{RUNTIME_DIR, syscalls};

/// Paths that show nothing: what tells of, or reaches, the machine beneath, and Leash's own run-time files.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    RUNTIME_DIR,
];
/// Paths of `/proc` that stay readable only.
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Builds the specification for a root that [`root`](super::root) assembled.
pub(super) fn build(plan: &Plan, root: &Path) -> Result<Spec, OciSpecError> {
    let rootless = plan.cgroup.is_none();
    let groups = if rootless { Vec::new() } else { plan.user.groups.clone() };
    let user = UserBuilder::default().uid(plan.user.uid).gid(plan.user.gid).additional_gids(groups).build()?;
    let none = std::collections::HashSet::new;
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(none())
        .effective(none())
        .inheritable(none())
        .permitted(none())
        .ambient(none())
        .build()?;
    let process = ProcessBuilder::default()
        .terminal(plan.terminal)
        .user(user)
        // The real arguments and environment may be no text; the init has them from the plan.
        .args(vec!["leash-init".to_owned()])
        .env(Vec::new())
        .cwd(plan.workdir.clone())
        .capabilities(capabilities)
        .no_new_privileges(true)
        .rlimits(Vec::new())
        .build()?;
    let namespaces = [
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
    ]
    .into_iter()
    .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build())
    .collect::<Result<Vec<_>, _>>()?;
    let text = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let mut masked = text(MASKED);
    // An ordinary user's are elsewhere.
    masked.extend(plan.state_dir.parent().filter(|_| rootless).map(|runtime| runtime.to_string_lossy().into_owned()));
    let linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .cgroups_path(plan.cgroup.as_ref().map_or_else(|| Path::new("/").join(&plan.session), |cgroup| cgroup.path.clone()))
        .masked_paths(masked)
        .readonly_paths(text(READ_ONLY))
        .rootfs_propagation("private")
        .seccomp(seccomp()?)
        .build()?;
    SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path(root).readonly(true).build()?)
        .hostname(hostname())
        .mounts(mounts(rootless)?)
        .process(process)
        .linux(linux)
        .build()
}

/// The host's name: the session has its own UTS namespace so that it can't change it, not to hide it.
fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn mounts(rootless: bool) -> Result<Vec<Mount>, OciSpecError> {
    // Terminals belong to group tty where there is one, devpts(5). A user namespace knows no such group.
    let tty = Group::from_name("tty").ok().flatten().filter(|_| !rootless).map(|group| format!("gid={}", group.gid));
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    pts.extend(tty.as_deref());
    // Only who owns the network namespace can have a sysfs of its own. The host's shows the same, and is read-only all the same.
    let sys = match rootless {
        true => vec![("/sys", "bind", "/sys", vec!["rbind", "rnosuid", "rnoexec", "rnodev", "rro"])],
        false => vec![
            ("/sys", "sysfs", "sysfs", vec!["nosuid", "noexec", "nodev", "ro"]),
            ("/sys/fs/cgroup", "cgroup", "cgroup", vec!["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
    };
    [
        ("/proc", "proc", "proc", vec!["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", "tmpfs", vec!["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", "devpts", pts),
        ("/dev/shm", "tmpfs", "shm", vec!["nosuid", "noexec", "nodev", "mode=1777"]),
        ("/dev/mqueue", "mqueue", "mqueue", vec!["nosuid", "noexec", "nodev"]),
    ]
    .into_iter()
    .chain(sys)
    .map(|(destination, kind, source, options)| {
        MountBuilder::default()
            .destination(PathBuf::from(destination))
            .typ(kind)
            .source(PathBuf::from(source))
            .options(options.into_iter().map(str::to_owned).collect::<Vec<_>>())
            .build()
    })
    .collect()
}

/// The filter that knows names only; a session without a container has the same one.
pub(super) fn seccomp() -> Result<libcontainer::oci_spec::runtime::LinuxSeccomp, OciSpecError> {
    let rule = |names: &[&str], action, errno: Option<i32>| {
        let builder =
            LinuxSyscallBuilder::default().names(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).action(action);
        match errno {
            Some(errno) => builder.errno_ret(errno.unsigned_abs()).build(),
            None => builder.build(),
        }
    };
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(libc::ENOSYS.unsigned_abs())
        .architectures(vec![Arch::ScmpArchX86_64])
        .syscalls(vec![
            rule(syscalls::ALLOWED, LinuxSeccompAction::ScmpActAllow, None)?,
            rule(syscalls::DENIED, LinuxSeccompAction::ScmpActErrno, Some(libc::EPERM))?,
        ])
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::plan::Identity;

    fn spec() -> Spec {
        let plan = Plan {
            session: "s1".into(),
            state_dir: "/run/leash/s1".into(),
            cgroup: Some(crate::sandbox::plan::Place { mount: "/sys/fs/cgroup".into(), path: "/leash/s1".into() }),
            contained: true,
            binds: Vec::new(),
            private_tmp: true,
            user: Identity {
                uid: 1000,
                gid: 1000,
                groups: vec![1000, 27],
                name: "a".into(),
                home: "/h".into(),
                shell: "/bin/sh".into(),
            },
            workdir: "/w".into(),
            argv: vec![b"true".to_vec()],
            env: Vec::new(),
            terminal: false,
            supervisor: None,
            floor: Vec::new(),
        };
        build(&plan, Path::new("/run/leash/s1/root")).unwrap()
    }

    #[test]
    fn nothing_privileged_is_left() {
        let spec = spec();
        let process = spec.process().as_ref().unwrap();
        let capabilities = process.capabilities().as_ref().unwrap();
        for set in [
            capabilities.bounding(),
            capabilities.effective(),
            capabilities.permitted(),
            capabilities.inheritable(),
            capabilities.ambient(),
        ] {
            assert_eq!(set.as_ref().map(std::collections::HashSet::len), Some(0));
        }
        assert_eq!(process.no_new_privileges(), Some(true));
        assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
        assert!(spec.linux().as_ref().unwrap().masked_paths().as_ref().unwrap().contains(&RUNTIME_DIR.to_owned()));
    }

    #[test]
    fn every_named_system_call_is_known_to_the_filter_or_newer_than_it() {
        let spec = spec();
        let seccomp = spec.linux().as_ref().unwrap().seccomp().as_ref().unwrap();
        assert_eq!(seccomp.default_errno_ret(), Some(libc::ENOSYS as u32));
        assert_eq!(seccomp.syscalls().as_ref().unwrap().len(), 2);
    }
}
