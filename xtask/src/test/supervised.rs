//! The suites on the supervised backend, on this machine's own kernel: as root, in mount and network namespaces of their own, so that
//! nothing of the machine is touched.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::run_and_tally;
use super::suite::Suite;
use super::tally::Tally;
use crate::{build, process};

/// Tests that speak of the throw-away machines: their root is an overlay, they have loop devices and routes, `doctor` finds BPF LSM in
/// them, and their process 1 lets its namespaces be opened.
const OF_MACHINES: [&str; 7] = [
    "a_mapping_of_an_overlay_is_asked_by_the_overlay_s_name",
    "an_overlay_is_asked_by_its_own_names",
    "doctor_finds_what_these_machines_have",
    "extended_attributes",
    "mounts_in_mounts",
    "routes_lead_nowhere",
    "the_container_keeps_what_paths_mean",
];

/// Runs them one test at a time: they share one ground.
pub(super) fn run(suites: &[Suite]) -> Result<Tally> {
    let start = Instant::now();
    if process::output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("the suites of the supervised backend need root: run `cargo xtask test` as root");
    }
    let release = process::output(Command::new("uname").arg("-r"))?;
    let mut numbers = release.split('.');
    let (major, minor) = numbers.next().zip(numbers.next()).context("the kernel's release has no two numbers")?;
    let mut tally = Tally::default();
    for suite in suites {
        println!("\n=== {} (supervised)", suite.name);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--propagation", "private"]).arg(&suite.program).arg("--test-threads=1");
        for test in OF_MACHINES {
            command.args(["--skip", test]);
        }
        command.current_dir(&suite.directory).env("CARGO_MANIFEST_DIR", &suite.directory).env("LEASH_BIN", build::leash());
        command.env("LEASH_BACKEND", "supervised").env("LEASH_EXPECT_KERNEL", format!("{major}.{minor}"));
        tally.add(&run_and_tally(&mut command, &suite.name)?);
    }
    tally.elapsed = start.elapsed();
    Ok(tally)
}
