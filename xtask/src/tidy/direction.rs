//! Who may depend on whom: between crates, and between the rooms of the agent.

use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Finding, Source};
use crate::{build, paths, process};

/// Each crate of the project with those of its siblings that it may use.
const CRATES: [(&str, &[&str]); 7] = [
    ("leash-common", &[]),
    ("leash-ebpf", &["leash-common"]),
    ("leash-policy", &["leash-common"]),
    ("leash-agent", &["leash-common", "leash-policy"]),
    ("leash-tests", &["leash-common", "leash-policy", "leash-agent"]),
    ("leash-fuzz", &["leash-policy", "leash-agent"]),
    ("xtask", &[]),
];

/// Each room of the agent with its height: one may use only rooms below itself.
const ROOMS: [(&str, u8); 5] = [("cli", 3), ("daemon", 2), ("sandbox", 1), ("enforce", 1), ("audit", 0)];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
}

pub(super) fn crates() -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for manifest in ["Cargo.toml", "leash-ebpf/Cargo.toml"] {
        let mut cargo: Command = build::cargo();
        cargo.args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"]).arg(paths::root().join(manifest));
        let metadata: Metadata =
            serde_json::from_str(&process::output(&mut cargo)?).context("unexpected output of cargo metadata")?;
        findings.extend(metadata.packages.iter().flat_map(|package| foreign(package, manifest)));
    }
    Ok(findings)
}

fn foreign(package: &Package, manifest: &str) -> Vec<Finding> {
    let Some((_, allowed)) = CRATES.iter().find(|(name, _)| *name == package.name) else {
        return vec![Finding::new(
            manifest.as_ref(),
            0,
            format!("crate `{}` has no place in the dependency direction", package.name),
        )];
    };
    let siblings = package.dependencies.iter().filter(|dependency| CRATES.iter().any(|(name, _)| *name == dependency.name));
    siblings
        .filter(|dependency| dependency.name != package.name && !allowed.contains(&dependency.name.as_str()))
        .map(|dependency| {
            Finding::new(manifest.as_ref(), 0, format!("`{}` may not depend on `{}`", package.name, dependency.name))
        })
        .collect()
}

/// Uses of a room that isn't below the file's own.
pub(super) fn rooms(source: &Source) -> Vec<Finding> {
    let Ok(inside) = source.path.strip_prefix("leash-agent/src") else { return Vec::new() };
    let first = inside.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    let Some((own, height)) = room(first.trim_end_matches(".rs")) else { return Vec::new() };
    let mut findings = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for used in used_modules(code) {
            if let Some((name, other)) = room(used)
                && name != own
                && other >= height
            {
                findings.push(Finding::new(
                    &source.path,
                    index,
                    format!("`{own}` may not use `{name}`: cli → daemon → sandbox, enforce → audit"),
                ));
            }
        }
    }
    findings
}

fn room(name: &str) -> Option<(&'static str, u8)> {
    ROOMS.into_iter().find(|(room, _)| *room == name)
}

/// The modules that follow `crate::` in a line, also in braces.
fn used_modules(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = code.get(at + path.len()..).unwrap_or_default();
        let Some(list) = rest.strip_prefix('{') else {
            found.push(identifier(rest));
            continue;
        };
        let mut depth = 0_u32;
        let mut expects_name = true;
        for (offset, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expects_name = true,
                _ if expects_name && !character.is_whitespace() => {
                    found.push(identifier(list.get(offset..).unwrap_or_default()));
                    expects_name = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn identifier(text: &str) -> &str {
    let end = text.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        rooms(&Source { path: path.into(), text: text.into() }).len()
    }

    #[test]
    fn a_room_uses_only_rooms_below() {
        assert_eq!(found("leash-agent/src/cli/run.rs", "use crate::daemon::Session;"), 0);
        assert_eq!(found("leash-agent/src/audit/log.rs", "use crate::enforce::Event;"), 1);
        assert_eq!(found("leash-agent/src/sandbox/mod.rs", "use crate::{audit::{Log, enforce}, enforce::Engine};"), 1);
        assert_eq!(found("leash-agent/src/enforce.rs", "// crate::cli\nfn f() { crate::cli::print() }"), 1);
        assert_eq!(found("leash-agent/src/main.rs", "use crate::cli;"), 0);
    }

    #[test]
    fn a_crate_uses_only_its_own_side() {
        let package = |name: &str, dependency: &str| Package {
            name: name.into(),
            dependencies: vec![Dependency { name: dependency.into() }, Dependency { name: "serde".into() }],
        };
        assert!(foreign(&package("leash-agent", "leash-policy"), "m").is_empty());
        assert_eq!(foreign(&package("leash-policy", "leash-agent"), "m").len(), 1);
        assert_eq!(foreign(&package("xtask", "leash-common"), "m").len(), 1);
        assert_eq!(foreign(&package("stranger", "serde"), "m").len(), 1);
    }
}
