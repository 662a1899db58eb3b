//! What a suite finds around it: namespaces of its own, in which the checkout lies where no test mounts anything over it, whatever its path.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};

use super::Binary;
use super::plan::{Place, Run, Subject};
use crate::paths;

/// Who the supervised suites act as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Root,
    User,
    /// An ordinary user without user namespaces.
    Bare,
}

/// Suites that are for a container's sessions, or for those without.
const OF_BARE: &str = "supervised_bare";
/// Suites that take root: programs of the kernel under the supervisor.
const OF_ROOT: &str = "supervised_network";
/// What only sessions in containers can do.
const OF_CONTAINERS: [&str; 2] = ["kernel_agents", "kernel_backends"];

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Root, Self::User, Self::Bare];

    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Root => "as root",
            Self::User => "as an ordinary user",
            Self::Bare => "as an ordinary user without user namespaces",
        }
    }

    /// Whether a suite for the supervised backend runs so.
    pub(super) fn runs(self, suite: &str) -> bool {
        match self {
            Self::Root => suite != OF_BARE,
            Self::User => ![OF_BARE, OF_ROOT].contains(&suite),
            Self::Bare => suite != OF_ROOT && !OF_CONTAINERS.contains(&suite),
        }
    }
}

/// A number that is nobody's.
const USER: &str = "54321";

/// What the suites write to lies in memory, `/etc` too, and goes with their mount namespace. In a new network namespace loopback is
/// down. What they need of the checkout and of the cache is mounted below `/srv`, where an ordinary user reaches it as well: nothing here is
/// found by the path that it has outside.
const GROUND: &str = r#"
place=$(mktemp -d)
mkdir -p /srv
mount -t tmpfs -o mode=755 leash-tests "$place"
cd "$place"
mkdir tests build agents etc
touch leash
mount --bind "$LEASH_TESTS_DIR" tests
mount --bind "$LEASH_BUILD_DIR" build
mount --bind "$LEASH_AGENTS_DIR" agents
mount --bind "$LEASH_BIN" leash
mount -t tmpfs -o mode=755 leash-tests etc
cp -a /etc/. etc/
mount --move etc /etc
rmdir etc
cd /
mount --move "$place" /srv
rmdir "$place"
mount -t tmpfs -o mode=1777 leash-tests /tmp
mount -t tmpfs -o mode=1777 leash-tests /var/tmp
ip link set lo up
export CARGO_MANIFEST_DIR=/srv/tests LEASH_AGENTS_DIR=/srv/agents LEASH_BIN=/srv/leash
unset LEASH_TESTS_DIR LEASH_BUILD_DIR
cd /srv/tests
exec "$@"
"#;
/// With processes of its own, and a `/run`.
const APART: &str = r#"
mount -t proc proc /proc
mount -t tmpfs -o mode=755 leash-tests /run
exec "$@"
"#;
/// On that ground, where the kernel refuses user namespaces: as it does in a changed root, user_namespaces(7).
const BARE_GROUND: &str = r#"
mkdir /srv/root
mount --rbind / /srv/root
exec chroot /srv/root sh -ec 'cd "$0"; exec "$@"' "$PWD" "$@"
"#;

/// The command line of a run, which reads [`environment`].
pub(super) fn command(run: &Run, place: Place) -> Result<Vec<OsString>> {
    let mut words: Vec<OsString> = Vec::new();
    let mut say = |more: &[&str]| words.extend(more.iter().map(OsString::from));
    let bare = run.subject == Subject::Supervised(Way::Bare);
    if run.subject == Subject::Host {
        words.push(run.suite.program.clone().into());
        // Those that take root, which a plain `cargo test` may not have.
        words.push("--include-ignored".into());
    } else {
        say(&["unshare", "--mount", "--net", "--propagation", "private"]);
        // Here other suites run at the same time, and without a container tests signal whatever their user can signal. Programs in the
        // kernel know a process by the machine's number for it alone.
        let apart = bare || place == Place::Here && run.suite.name != OF_ROOT;
        if apart {
            say(&["--pid", "--fork", "--kill-child"]);
        }
        say(&["sh", "-ec", GROUND, "sh"]);
        if apart {
            say(&["sh", "-ec", APART, "sh"]);
        }
        if bare {
            say(&["sh", "-ec", BARE_GROUND, "sh"]);
        }
        let program = run.suite.program.strip_prefix(paths::debug());
        let program = program.with_context(|| format!("{} was built elsewhere", run.suite.program.display()))?;
        words.push(Path::new("/srv/build").join(program).into());
        // They share one kernel and one ground.
        words.push("--test-threads=1".into());
    }
    words.push("--exact".into());
    words.extend(run.tests.iter().map(OsString::from));
    Ok(words)
}

/// `kernel`: major and minor number of the kernel that it runs on.
pub(super) fn environment(run: &Run, kernel: &str, binary: Binary) -> Vec<(String, String)> {
    let text = |path: &Path| path.display().to_string();
    let mut pairs = vec![
        ("CARGO_MANIFEST_DIR", text(&run.suite.directory)),
        ("LEASH_BIN", text(&binary.path())),
        ("LEASH_EXPECT_KERNEL", kernel.to_owned()),
        ("LEASH_AGENTS_DIR", text(&paths::agents())),
        ("LEASH_BUILD_DIR", text(&paths::debug())),
        ("LEASH_TESTS_DIR", text(&paths::root().join("tests"))),
    ];
    if let Subject::Supervised(way) = run.subject {
        pairs.push(("LEASH_BACKEND", "supervised".to_owned()));
        if way != Way::Root {
            pairs.push(("LEASH_AS", USER.to_owned()));
        }
        if way == Way::Bare {
            pairs.push(("LEASH_BARE", "1".to_owned()));
        }
    }
    if let Ok(swaps) = std::env::var("LEASH_SWAPS") {
        pairs.push(("LEASH_SWAPS", swaps));
    }
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
