//! The suites on the supervised backend, on this machine's own kernel: as root, as an ordinary user, and as one who may have no user namespace;
//! in mount, network (and pid) namespaces of their own, so that nothing of the machine is touched.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::run_and_tally;
use super::suite::Suite;
use super::tally::Tally;
use crate::{build, paths, process};

/// Tests that speak of the throw-away machines, by suite: their root is an overlay, they have loop devices and every kind of IPv6
/// route, `doctor` finds BPF LSM in them, and their process 1 lets its namespaces be opened.
const OF_MACHINES: [(&str, &str); 8] = [
    ("kernel_hooks", "extended_attributes"),
    ("kernel_hooks", "mounts_in_mounts"),
    ("kernel_hooks", "sockets"),
    ("kernel_redteam", "overlay"),
    ("kernel_redteam", "extended_attributes_are_asked"),
    ("kernel_redteam", "routes_lead_nowhere"),
    ("kernel_redteam", "the_container_keeps_what_paths_mean"),
    ("kernel_run", "doctor_finds_what_these_machines_have"),
];

/// The suites that root's sessions must pass in the machines, too, where an emulated processor makes each call dear.
const IN_MACHINES: [&str; 2] = ["kernel_backends", "kernel_sessions"];

/// See [`IN_MACHINES`].
pub(super) fn is_for_machines(suite: &Suite) -> bool {
    IN_MACHINES.contains(&suite.name.as_str())
}

/// The suites that an ordinary user's sessions must pass, too.
const OF_USERS: [&str; 12] = [
    "kernel_accounting",
    "kernel_agents",
    "kernel_backends",
    "kernel_config",
    "kernel_differential",
    "kernel_hooks",
    "kernel_redteam",
    "kernel_run",
    "kernel_sessions",
    "kernel_terminal",
    "kernel_work",
    "supervised_backend",
];
/// What an ordinary user doesn't have: other users, cgroups, and the tools below root's home directory.
const OF_ROOT: [(&str, &str); 6] = [
    ("kernel_config", "a_configuration_file_gives_its_owner_no_more_than_they_have"),
    ("kernel_run", "a_cgroup_namespace_gets_the_supervised_backend"),
    ("kernel_run", "another_user_can_be_named"),
    ("kernel_run", "doctor_says_no_where_root_lacks_what_a_session_takes"),
    ("kernel_sessions", "a_child_cgroup_made_later_is_inside"),
    ("kernel_work", "rust_crate_offline"),
];
/// The suite of sessions without a container.
const BARE: &str = "supervised_bare";
/// The suites that sessions without a container must pass, too.
const OF_BARE: [&str; 11] = [
    BARE,
    "kernel_accounting",
    "kernel_config",
    "kernel_differential",
    "kernel_hooks",
    "kernel_redteam",
    "kernel_run",
    "kernel_sessions",
    "kernel_terminal",
    "kernel_work",
    "supervised_backend",
];
/// Tests of the container itself: it needs a namespace, and has `/sys` mounted anew.
const OF_CONTAINERS: [(&str, &str); 2] = [
    ("kernel_run", "an_ordinary_user_s_container_needs_a_user_namespace"),
    ("supervised_backend", "the_systems_own_files_are_read_only"),
];
/// A number that is nobody's.
const USER: &str = "54321";

/// What the suites write to lies in memory, `/etc` too, and goes with their mount namespace. In a new network namespace loopback is
/// down. An ordinary user may not reach the binary where it was built, nor the agents where they were installed.
const GROUND: &str = r#"
mkdir -p /srv
mount -t tmpfs -o mode=755 leash-tests /srv
mount -t tmpfs leash-tests /var/tmp
mkdir /srv/etc /srv/agents
mount -t tmpfs -o mode=755 leash-tests /srv/etc
cp -a /etc/. /srv/etc/
mount --move /srv/etc /etc
rmdir /srv/etc
mount --bind "$LEASH_AGENTS_DIR" /srv/agents
export LEASH_AGENTS_DIR=/srv/agents
ip link set lo up
cp "$LEASH_BIN" /srv/leash
LEASH_BIN=/srv/leash exec "$@"
"#;
/// On that ground, where the kernel refuses user namespaces: as it does in a changed root, user_namespaces(7). In a pid namespace, because
/// these tests signal whatever their user can signal.
const BARE_GROUND: &str = r#"
mount -t proc proc /proc
mount -t tmpfs -o mode=1777 leash-tests /tmp
mkdir /srv/root
mount --rbind / /srv/root
exec chroot /srv/root sh -ec 'cd "$0"; exec "$@"' "$PWD" "$@"
"#;

/// Who the suites act as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Root,
    User,
    /// An ordinary user without user namespaces.
    Bare,
}

impl Way {
    const ALL: [Self; 3] = [Self::Root, Self::User, Self::Bare];

    fn words(self) -> &'static str {
        match self {
            Self::Root => "as root",
            Self::User => "as an ordinary user",
            Self::Bare => "as an ordinary user without user namespaces",
        }
    }

    fn runs(self, suite: &str) -> bool {
        match self {
            Self::Root => suite != BARE,
            Self::User => OF_USERS.contains(&suite),
            Self::Bare => OF_BARE.contains(&suite),
        }
    }

    fn leaves_out(self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        let of_root = OF_ROOT.iter().filter(move |_| self != Self::Root);
        OF_MACHINES.iter().chain(of_root).chain(OF_CONTAINERS.iter().filter(move |_| self == Self::Bare))
    }
}
/// Where the suites mount a file system of their own.
const MOUNT_POINT: &str = "/w";

/// Runs them one test at a time: they share one ground.
pub(super) fn run(suites: &[Suite]) -> Result<Tally> {
    let start = Instant::now();
    if process::output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("the suites of the supervised backend need root: run `cargo xtask test` as root");
    }
    let release = process::output(Command::new("uname").arg("-r"))?;
    let mut numbers = release.split('.');
    let (major, minor) = numbers.next().zip(numbers.next()).context("the kernel's release has no two numbers")?;
    let made = !Path::new(MOUNT_POINT).exists();
    let mut tally = Tally::default();
    let runs = Way::ALL
        .into_iter()
        .flat_map(|way| suites.iter().filter(move |suite| way.runs(&suite.name)).map(move |suite| (way, suite)));
    for (way, suite) in runs {
        println!("\n=== {} (supervised, {})", suite.name, way.words());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--propagation", "private"]);
        if way == Way::Bare {
            command.args(["--pid", "--fork", "--kill-child", "sh", "-ec", GROUND, "sh", "sh", "-ec", BARE_GROUND, "sh"]);
            command.env("LEASH_BARE", "1");
        } else {
            command.args(["sh", "-ec", GROUND, "sh"]);
        }
        command.arg(&suite.program).arg("--test-threads=1");
        for (_, test) in way.leaves_out().filter(|(name, _)| *name == suite.name) {
            command.args(["--skip", test]);
        }
        if way != Way::Root {
            command.env("LEASH_AS", USER);
        }
        command.current_dir(&suite.directory).env("CARGO_MANIFEST_DIR", &suite.directory).env("LEASH_BIN", build::leash());
        command.env("LEASH_BACKEND", "supervised").env("LEASH_EXPECT_KERNEL", format!("{major}.{minor}"));
        command.env("LEASH_AGENTS_DIR", paths::target().join("agents"));
        tally.add(&run_and_tally(&mut command, &suite.name)?);
    }
    if made && Path::new(MOUNT_POINT).exists() {
        std::fs::remove_dir(MOUNT_POINT).with_context(|| format!("removing `{MOUNT_POINT}`"))?;
    }
    tally.elapsed = start.elapsed();
    Ok(tally)
}
