//! Where packages come from is each machine's business: no registry or mirror is named in the project.
//!
//! Which names to look for is taken from the configuration of this machine's package managers, so the rule
//! finds what somebody copied from his own.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Finding, Source};

/// Hosts that are also a project's home page or its code's, and say nothing of a machine.
const EVERYWHERE: [&str; 4] = ["github.com", "localhost", "127.0.0.1", "crates.io"];

/// Variables of package managers that may name a registry.
const VARIABLES: [&str; 7] = ["PIP_", "UV_", "NPM_CONFIG_", "npm_config_", "CARGO_REGISTRIES_", "CARGO_SOURCE_", "RUSTUP_"];

/// The hosts in this machine's configuration.
pub(super) fn configured() -> BTreeSet<String> {
    let mut files: Vec<PathBuf> = ["/etc/apt/sources.list", "/etc/pip.conf", "/etc/npmrc"].map(PathBuf::from).into();
    files.extend(fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()));
    if let Some(home) = env::var_os("HOME") {
        let names = [".pip/pip.conf", ".config/pip/pip.conf", ".npmrc", ".cargo/config", ".cargo/config.toml"];
        files.extend(names.map(|name| Path::new(&home).join(name)));
    }
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    let variables =
        env::vars().filter(|(name, _)| VARIABLES.iter().any(|prefix| name.starts_with(prefix))).map(|(_, value)| value);
    texts.chain(variables).flat_map(|text| hosts_in(&text)).collect()
}

fn hosts_in(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with(['#', ';']));
    let urls = lines.flat_map(|line| line.split("://").skip(1));
    urls.filter_map(|rest| {
        let authority = rest.split(['/', '"', '\'', ' ', '\t', ']', ',']).next()?;
        let host = authority.rsplit('@').next()?.split(':').next()?;
        (host.contains('.') && !EVERYWHERE.contains(&host)).then(|| host.to_owned())
    })
    .collect()
}

pub(super) fn check(source: &Source, hosts: &BTreeSet<String>) -> Vec<Finding> {
    let named = |line: &str| hosts.iter().any(|host| line.contains(host.as_str()));
    let lines = source.text.lines().enumerate().filter(|(_, line)| named(line));
    lines
        .map(|(index, _)| Finding::new(&source.path, index, "names a registry or mirror of this machine's configuration"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_taken_from_urls_without_credentials_and_ports() {
        let text = "# http://comment.test/x\nindex-url = https://user:word@mirror.test:8080/simple\ndeb http://apt.test/debian sid main\n";
        assert_eq!(hosts_in(text), ["mirror.test", "apt.test"]);
        assert!(hosts_in("registry = \"https://github.com/x\"").is_empty());
    }

    #[test]
    fn a_named_host_is_found() {
        let hosts = BTreeSet::from(["mirror.test".to_owned()]);
        let source = Source { path: "a.md".into(), text: "one\nget it from http://mirror.test/\n".into() };
        assert_eq!(check(&source, &hosts).first().map(|finding| finding.line), Some(2));
    }
}
