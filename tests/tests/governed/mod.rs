//! Runs of `leash run` and their logs, for the suites that start whole programs.
#![allow(dead_code)] // each suite uses its part

pub(crate) mod ground;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use leash_tests::user;
use serde_json::Value;

/// The binary under test.
pub(crate) fn leash() -> PathBuf {
    PathBuf::from(env::var_os("LEASH_BIN").expect("LEASH_BIN names the leash binary under test"))
}

/// The directory of this package, where the fixtures are.
pub(crate) fn fixtures() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// A directory that no profile knows of, as a developer's projects are in, removed at the end.
pub(crate) fn scratch() -> tempfile::TempDir {
    fs::create_dir_all("/srv").expect("/srv can be made");
    tempfile::Builder::new().prefix("leash-").tempdir_in("/srv").expect("a directory below /srv")
}

/// A command that starts another, as whom the suite is about, where `home` is the home directory: policies believe the user database,
/// not `$HOME`.
pub(crate) fn at_home(home: &Path, directory: &Path) -> Command {
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    let lines = users.lines().map(|line| {
        let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
        if fields.get(2).is_some_and(|uid| uid == "0") {
            fields[5] = home.display().to_string();
        }
        fields.join(":") + "\n"
    });
    let ordinary = user::ordinary().map(|user| format!("somebody:x:{user}:{user}::{}:/bin/sh\n", home.display()));
    let file = directory.join("passwd");
    fs::write(&file, lines.chain(ordinary).collect::<String>()).expect("a user database");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc", "mount --bind \"$0\" /etc/passwd; exec \"$@\""]).arg(file);
    if let Some(user) = user::ordinary() {
        command.args(["setpriv", "--clear-groups", &format!("--reuid={user}"), &format!("--regid={user}")]);
    }
    command
}

/// A command that starts another as root, where `home` is this user's home directory.
pub(crate) fn at_home_of(user: u32, home: &Path, directory: &Path) -> Command {
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    let others = users.lines().filter(|line| line.split(':').nth(2) != Some(&user.to_string()));
    let own = format!("somebody:x:{user}:{user}::{}:/bin/sh", home.display());
    let file = directory.join("passwd");
    fs::write(&file, others.chain([own.as_str()]).map(|line| format!("{line}\n")).collect::<String>()).expect("a user database");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc", "mount --bind \"$0\" /etc/passwd; exec \"$@\""]).arg(file);
    command
}

/// The log of one session.
pub(crate) struct Log {
    records: Vec<Value>,
}

impl Log {
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("no log at {}: {error}", path.display()));
        let records = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`")));
        Self { records: records.collect() }
    }

    /// The one record of this type (`session_start`, `session_end`).
    pub(crate) fn only(&self, kind: &str) -> &Value {
        let found: Vec<&Value> = self.records.iter().filter(|record| record["type"] == kind).collect();
        assert_eq!(found.len(), 1, "records of type {kind}");
        found[0]
    }

    /// What the policies would deny or did deny.
    pub(crate) fn denials(&self) -> Vec<&Value> {
        self.records.iter().filter(|record| record["verdict"] == "deny").collect()
    }

    /// Denials of this action on this resource.
    pub(crate) fn denials_of(&self, action: &str, resource: &str) -> Vec<&Value> {
        self.denials().into_iter().filter(|record| record["action"] == action && resource_text(record) == resource).collect()
    }

    /// One line for each denial, for people who read a failed test.
    pub(crate) fn denials_text(&self) -> String {
        let mut lines: Vec<String> = self.denials().into_iter().map(describe).collect();
        lines.sort();
        lines.dedup();
        lines.join("\n")
    }
}

/// A record's resource: its path, or `address:port`.
pub(crate) fn resource_text(record: &Value) -> String {
    let resource = &record["resource"];
    let text = |name: &str| resource[name].as_str().map(str::to_owned);
    text("path").or_else(|| Some(format!("{}:{}", text("ip")?, resource["port"]))).unwrap_or_else(|| resource.to_string())
}

/// A denial in a line.
pub(crate) fn describe(record: &Value) -> String {
    format!("{} {} by {} because of {}", record["action"], resource_text(record), record["exe"], record["policies"])
}

/// Whether the policy is among those that decided.
pub(crate) fn names_policy(record: &Value, policy: &str) -> bool {
    record["policies"].as_array().is_some_and(|policies| policies.iter().any(|found| found == policy))
}
