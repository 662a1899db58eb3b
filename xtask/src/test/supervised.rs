//! The suites on the supervised backend, on this machine's own kernel: as root, in mount and network namespaces of their own, so that
//! nothing of the machine is touched.

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

/// The suites that an ordinary user's sessions must pass, too.
const OF_USERS: [&str; 11] = [
    "kernel_accounting",
    "kernel_agents",
    "kernel_backends",
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
const OF_ROOT: [(&str, &str); 3] = [
    ("kernel_run", "another_user_can_be_named"),
    ("kernel_sessions", "a_child_cgroup_made_later_is_inside"),
    ("kernel_work", "rust_crate_offline"),
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
    let of_users = suites.iter().filter(|suite| OF_USERS.contains(&suite.name.as_str())).map(|suite| (suite, Some(USER)));
    for (suite, user) in suites.iter().map(|suite| (suite, None)).chain(of_users) {
        println!("\n=== {} (supervised, {})", suite.name, if user.is_some() { "as an ordinary user" } else { "as root" });
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--propagation", "private", "sh", "-ec", GROUND, "sh"]);
        command.arg(&suite.program).arg("--test-threads=1");
        let of_root = OF_ROOT.iter().filter(|_| user.is_some());
        for (_, test) in OF_MACHINES.iter().chain(of_root).filter(|(name, _)| *name == suite.name) {
            command.args(["--skip", test]);
        }
        if let Some(user) = user {
            command.env("LEASH_AS", user);
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
