//! The suites on the supervised backend: as root, as an ordinary user, and as one who may have no user namespace; in mount, network (and
//! pid) namespaces of their own, so that nothing of the machine is touched. They run on this machine's own kernel, and in the machines.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::run_and_tally;
use super::suite::Suite;
use super::tally::Tally;
use crate::{build, paths, process};

/// Tests that only the throw-away machines pass, by suite: their root is an overlay, they have loop devices and every kind of IPv6
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

/// Tests that don't hold in the machines as they are, on either backend (docs/plan.md).
pub(super) const NOT_IN_MACHINES: [(&str, &str); 1] = [("kernel_run", "a_cgroup_namespace_gets_the_supervised_backend")];

/// What root's sessions must pass in the machines, too, where nothing else is asked for: an emulated processor makes each call dear.
const IN_MACHINES: [&str; 2] = ["kernel_backends", "kernel_sessions"];

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
/// What an ordinary user doesn't have: other users, cgroups, the tools below root's home directory, and what can't be tried without Leash.
const OF_ROOT: [(&str, &str); 11] = [
    ("kernel_config", "a_configuration_file_gives_its_owner_no_more_than_they_have"),
    ("kernel_run", "a_cgroup_namespace_gets_the_supervised_backend"),
    ("kernel_run", "an_lsm_list_without_bpf_gets_the_supervised_backend"),
    ("kernel_run", "another_user_can_be_named"),
    ("kernel_run", "doctor_says_no_where_root_lacks_what_a_session_takes"),
    ("kernel_hooks", "sockets"),
    ("kernel_redteam", "an_overlay_is_asked_by_its_own_names"),
    ("kernel_redteam", "routes_lead_nowhere"),
    ("kernel_redteam", "the_container_keeps_what_paths_mean"),
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
pub(super) enum Way {
    Root,
    User,
    /// An ordinary user without user namespaces.
    Bare,
}

impl Way {
    const ALL: [Self; 3] = [Self::Root, Self::User, Self::Bare];

    /// For people.
    pub(super) fn words(self) -> &'static str {
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

    fn leaves_out(self, in_machine: bool) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        let of_place: &[_] = if in_machine { &NOT_IN_MACHINES } else { &OF_MACHINES };
        let of_root = OF_ROOT.iter().filter(move |_| self != Self::Root);
        of_place.iter().chain(of_root).chain(OF_CONTAINERS.iter().filter(move |_| self == Self::Bare))
    }
}

/// A suite in one of the ways that are its.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) suite: &'a Suite,
    pub(super) way: Way,
}

impl<'a> Run<'a> {
    /// All that there are.
    pub(super) fn all(suites: &'a [Suite]) -> impl Iterator<Item = Self> {
        let suites_of = move |way: Way| suites.iter().filter(move |suite| way.runs(&suite.name));
        Way::ALL.into_iter().flat_map(move |way| suites_of(way).map(move |suite| Self { suite, way }))
    }

    /// Whether it runs in the machines where nothing else is asked for.
    pub(super) fn is_usual_in_machines(&self) -> bool {
        self.way == Way::Root && IN_MACHINES.contains(&self.suite.name.as_str())
    }

    /// Its command line, which reads [`Run::environment`].
    pub(super) fn command(&self, in_machine: bool, filter: Option<&str>) -> Vec<OsString> {
        const APART: [&str; 5] = ["unshare", "--mount", "--net", "--propagation", "private"];
        const GROUNDED: [&str; 4] = ["sh", "-ec", GROUND, "sh"];
        let words = match self.way {
            // Nothing in a machine has to be spared, and root reaches everything.
            Way::Root if in_machine => Vec::new(),
            Way::Root | Way::User => [&APART[..], &GROUNDED].concat(),
            Way::Bare => {
                [&APART[..], &["--pid", "--fork", "--kill-child"], &GROUNDED, &["sh", "-ec", BARE_GROUND, "sh"]].concat()
            }
        };
        let mut words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        words.push(self.suite.program.clone().into());
        words.extend(filter.map(OsString::from));
        words.push("--test-threads=1".into());
        for (_, test) in self.way.leaves_out(in_machine).filter(|(name, _)| *name == self.suite.name) {
            words.extend(["--skip", test].map(OsString::from));
        }
        words
    }

    /// `kernel`: major and minor number of the kernel that it runs on.
    pub(super) fn environment(&self, kernel: &str) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        let mut pairs = vec![
            ("CARGO_MANIFEST_DIR", text(&self.suite.directory)),
            ("LEASH_BIN", text(&build::leash())),
            ("LEASH_BACKEND", "supervised".to_owned()),
            ("LEASH_EXPECT_KERNEL", kernel.to_owned()),
            ("LEASH_AGENTS_DIR", text(&paths::target().join("agents"))),
        ];
        if self.way != Way::Root {
            pairs.push(("LEASH_AS", USER.to_owned()));
        }
        if self.way == Way::Bare {
            pairs.push(("LEASH_BARE", "1".to_owned()));
        }
        if let Ok(swaps) = std::env::var("LEASH_SWAPS") {
            pairs.push(("LEASH_SWAPS", swaps));
        }
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
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
    for run in Run::all(suites) {
        println!("\n=== {} (supervised, {})", run.suite.name, run.way.words());
        let words = run.command(false, None);
        let [program, arguments @ ..] = words.as_slice() else { continue };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&run.suite.directory).envs(run.environment(&format!("{major}.{minor}")));
        tally.add(&run_and_tally(&mut command, &run.suite.name)?);
    }
    if made && Path::new(MOUNT_POINT).exists() {
        std::fs::remove_dir(MOUNT_POINT).with_context(|| format!("removing `{MOUNT_POINT}`"))?;
    }
    tally.elapsed = start.elapsed();
    Ok(tally)
}
