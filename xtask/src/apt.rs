//! Packages of Debian releases other than the installed one, through the machine's own apt.
//!
//! The mirror and the keyring come from the machine's apt configuration, so no host is written down here and
//! a machine behind a mirror of its own just works. The package lists live in a throw-away state directory:
//! the machine's own lists, pins and installed packages are neither used nor changed. Signatures are always
//! checked; a keyring that doesn't know a release is an error that says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// An apt source that carries Debian's main archive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    uri: String,
    keyring: Option<String>,
}

/// Releases that Debian's main archive is known to be configured with; a source with another suite belongs
/// to a third party.
const OWN_SUITES: [&str; 10] =
    ["bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable", "oldoldstable"];

/// The machine's mirror of the main Debian archive.
pub(crate) fn mirror() -> Result<Mirror> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        found.sort();
        files.extend(found);
    }
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let found = match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => from_deb822(&text),
            Some("list") => from_one_line(&text),
            _ => None,
        };
        if let Some(mirror) = found {
            return Ok(mirror);
        }
    }
    bail!("no source of Debian's main archive in /etc/apt; the kernels come from there")
}

fn is_main_archive(uri: &str, suites: &str) -> bool {
    // The security archive has the same component names but not all releases.
    let last = uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    last == "debian" && suites.split_whitespace().any(|suite| OWN_SUITES.contains(&suite))
}

fn from_deb822(text: &str) -> Option<Mirror> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            stanza.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        if field("Enabled").is_some_and(|value| value == "no") || !field("Types")?.split_whitespace().any(|kind| kind == "deb") {
            return None;
        }
        let suites = field("Suites")?;
        let uri = field("URIs")?.split_whitespace().find(|uri| is_main_archive(uri, &suites))?.to_owned();
        // An embedded key is not a path; apt's trusted keys then have to do.
        let keyring = field("Signed-By").filter(|value| value.starts_with('/'));
        Some(Mirror { uri, keyring })
    })
}

fn from_one_line(text: &str) -> Option<Mirror> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        if !is_main_archive(uri, suite) {
            return None;
        }
        let keyring = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by=")).map(str::to_owned);
        Some(Mirror { uri: uri.to_owned(), keyring })
    })
}

/// A private view of one release's package lists.
pub(crate) struct Release {
    dir: PathBuf,
    suite: String,
}

impl Release {
    /// Fetches the lists of `suite` into `dir`, which must be private to the caller.
    pub(crate) fn open(mirror: &Mirror, suite: &str, dir: &Path) -> Result<Self> {
        for part in ["state/lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(dir.join(part)).with_context(|| format!("couldn't create {}", dir.join(part).display()))?;
        }
        let signed_by = mirror.keyring.as_ref().map(|keyring| format!(" signed-by={keyring}")).unwrap_or_default();
        fs::write(dir.join("sources.list"), format!("deb [arch=amd64{signed_by}] {} {suite} main\n", mirror.uri))?;
        fs::write(dir.join("status"), "")?;
        let release = Self { dir: dir.to_owned(), suite: suite.to_owned() };
        process::output(release.apt("apt-get").arg("update")).with_context(|| {
            format!("couldn't read the package lists of Debian {suite}; if a key is missing, upgrade debian-archive-keyring")
        })?;
        Ok(release)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |name: &str| self.dir.join(name).display().to_string();
        command.env("LC_ALL", "C").arg("-q").args([
            format!("-oDir::State={}", at("state")),
            format!("-oDir::State::status={}", at("status")),
            format!("-oDir::Cache={}", at("cache")),
            format!("-oDir::Etc::sourcelist={}", at("sources.list")),
            format!("-oDir::Etc::sourceparts={}", at("parts")),
            format!("-oDir::Etc::preferencesparts={}", at("parts")),
            "-oDir::Etc::preferences=/dev/null".to_owned(),
            "-oAcquire::Languages=none".to_owned(),
            "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // A warning about a list that couldn't be fetched or verified is otherwise no failure.
            "-oAPT::Update::Error-Mode=any".to_owned(),
        ]);
        command
    }

    /// What `package` depends on, first alternatives only.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let shown = process::output(self.apt("apt-cache").args(["show", "--no-all-versions", package]))
            .with_context(|| format!("Debian {} has no `{package}`", self.suite))?;
        let list = shown.lines().find_map(|line| line.strip_prefix("Depends:")).unwrap_or_default();
        Ok(list.split(',').filter_map(|entry| entry.split_whitespace().next()).map(str::to_owned).collect())
    }

    /// Downloads the packages, verified, and unpacks them into `into`.
    pub(crate) fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let debs = self.dir.join("debs");
        fs::create_dir_all(&debs)?;
        fs::create_dir_all(into)?;
        process::output(self.apt("apt-get").arg("download").args(packages).current_dir(&debs))?;
        for entry in fs::read_dir(&debs)? {
            process::run(Command::new("dpkg-deb").arg("--extract").arg(entry?.path()).arg(into))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(uri: &str, keyring: Option<&str>) -> Option<Mirror> {
        Some(Mirror { uri: uri.to_owned(), keyring: keyring.map(str::to_owned) })
    }

    #[test]
    fn the_main_archive_is_found_among_deb822_stanzas() {
        let text = "Types: deb\nURIs: http://m/debian-security\nSuites: bookworm-security\nComponents: main\n\n\
                    Types: deb\n# comment\nURIs: http://m/debian\nSuites: bookworm bookworm-updates\nSigned-By: /k.gpg\n";
        assert_eq!(from_deb822(text), mirror("http://m/debian", Some("/k.gpg")));
    }

    #[test]
    fn a_disabled_or_foreign_stanza_is_passed_over() {
        assert_eq!(from_deb822("Types: deb\nEnabled: no\nURIs: http://m/debian\nSuites: sid\n"), None);
        assert_eq!(from_deb822("Types: deb\nURIs: http://m/node_20.x\nSuites: nodistro\n"), None);
    }

    #[test]
    fn the_main_archive_is_found_among_one_line_sources() {
        let text = "# deb http://x/debian sid main\ndeb http://m/debian-security bookworm-security main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://m/debian/ bookworm main\n";
        assert_eq!(from_one_line(text), mirror("http://m/debian/", Some("/k.gpg")));
        assert_eq!(from_one_line("deb http://m/debian bookworm main"), mirror("http://m/debian", None));
    }
}
