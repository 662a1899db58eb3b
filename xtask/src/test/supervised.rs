//! The suites on the supervised backend, on this machine's own kernel: as root, in mount and network namespaces of their own, so that
//! nothing of the machine is touched.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::run_and_tally;
use super::suite::Suite;
use super::tally::Tally;
use crate::{build, process};

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

/// What the suites write to lies in memory, and goes with their mount namespace. In a new network namespace loopback is down.
const GROUND: &str = r#"
mkdir -p /srv
mount -t tmpfs leash-tests /srv
mount -t tmpfs leash-tests /var/tmp
ip link set lo up
exec "$@"
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
    for suite in suites {
        println!("\n=== {} (supervised)", suite.name);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--propagation", "private", "sh", "-ec", GROUND, "sh"]);
        command.arg(&suite.program).arg("--test-threads=1");
        for (_, test) in OF_MACHINES.iter().filter(|(name, _)| *name == suite.name) {
            command.args(["--skip", test]);
        }
        command.current_dir(&suite.directory).env("CARGO_MANIFEST_DIR", &suite.directory).env("LEASH_BIN", build::leash());
        command.env("LEASH_BACKEND", "supervised").env("LEASH_EXPECT_KERNEL", format!("{major}.{minor}"));
        tally.add(&run_and_tally(&mut command, &suite.name)?);
    }
    if made && Path::new(MOUNT_POINT).exists() {
        std::fs::remove_dir(MOUNT_POINT).with_context(|| format!("removing `{MOUNT_POINT}`"))?;
    }
    tally.elapsed = start.elapsed();
    Ok(tally)
}
