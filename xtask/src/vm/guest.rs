//! What the guest is given: its initramfs, and the job directory that says what to run.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Job;
use super::cpio::Archive;
use crate::kernel::Kernel;
use crate::paths;

const INIT: &str = include_str!("guest.sh");
const BUSYBOX: &str = "/bin/busybox";

/// Builds the initramfs for a kernel.
pub(super) fn initramfs(kernel: &Kernel) -> Result<Vec<u8>> {
    let busybox = fs::read(BUSYBOX).with_context(|| format!("couldn't read {BUSYBOX}; run `cargo xtask setup`"))?;
    let mut archive = Archive::default();
    for dir in ["dev", "modules"] {
        archive.directory(dir);
    }
    // The kernel opens this one for process 1 before anything is mounted.
    archive.device("dev/console", 5, 1);
    archive.file("busybox", &busybox);
    // The kernel starts a script by its `#!` line, and there is no other shell in there.
    archive.file("init", INIT.replacen("#!/bin/sh", "#!/busybox sh", 1).as_bytes());
    for module in &kernel.boot_modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("modules/{name}"), &fs::read(module)?);
    }
    Ok(archive.finish())
}

/// Writes the job directory; `merged` says that the command's stdout and stderr go to the same place.
pub(super) fn write_job(dir: &Path, job: &Job, kernel: &Kernel, merged: bool) -> Result<()> {
    let cwd = env::current_dir().context("the working directory is gone")?;
    let mut script = Vec::new();
    script.extend_from_slice(b"cd ");
    quote(cwd.as_os_str(), &mut script);
    script.extend_from_slice(b" || exit 125\nexec /run/vm/busybox env -i");
    let set = job.env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    for (name, value) in env::vars_os().filter_map(caller_variable).chain(set) {
        let mut pair = name.into_vec();
        pair.push(b'=');
        pair.extend_from_slice(value.as_bytes());
        script.push(b' ');
        quote(OsStr::from_bytes(&pair), &mut script);
    }
    for word in &job.command {
        script.push(b' ');
        quote(word, &mut script);
    }
    script.push(b'\n');
    fs::write(dir.join("command"), script)?;

    let mut settings = Vec::new();
    settings.extend_from_slice(format!("MERGE_OUTPUT={}\n", if merged { "yes" } else { "no" }).as_bytes());
    settings.extend_from_slice(b"MODULES_RELEASE=");
    quote(OsStr::new(&kernel.release), &mut settings);
    settings.extend_from_slice(b"\nMODULES_DIR=/run/vm/ov");
    quote(kernel.modules.as_os_str(), &mut settings);
    settings.push(b'\n');
    fs::write(dir.join("settings"), settings)?;

    let rw = writable(job)?;
    let hidden = [cwd, paths::root(), paths::target(), paths::agents()];
    let kept: Vec<PathBuf> =
        hidden.into_iter().filter(|dir| dir.exists() && (dir.starts_with("/tmp") || dir.starts_with("/run"))).collect();
    if kept.iter().any(|dir| dir == Path::new("/tmp") || dir == Path::new("/run")) {
        bail!("the guest's /tmp and /run are fresh ones: the working directory can't be there itself");
    }
    fs::write(dir.join("kept"), lines(&kept)?)?;
    fs::write(dir.join("rw"), lines(&rw)?)?;
    Ok(())
}

/// The writable directories of a job, as absolute paths.
pub(super) fn writable(job: &Job) -> Result<Vec<PathBuf>> {
    let resolve = |dir: &PathBuf| dir.canonicalize().with_context(|| format!("`--rw {}`: no such directory", dir.display()));
    job.rw.iter().map(resolve).collect()
}

fn lines(paths: &[PathBuf]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for path in paths {
        if path.as_os_str().as_bytes().contains(&b'\n') {
            bail!("{} has a line break in its name", path.display());
        }
        bytes.extend_from_slice(path.as_os_str().as_bytes());
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Leaves out what `cargo run` added for this program: the command should see the caller's environment.
fn caller_variable((name, value): (OsString, OsString)) -> Option<(OsString, OsString)> {
    const OWN: [&str; 4] = ["CARGO", "RUST_RECURSION_COUNT", "CARGO_PRIMARY_PACKAGE", "CARGO_CRATE_NAME"];
    const OWN_PREFIXES: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
    let text = name.to_string_lossy();
    if OWN.contains(&&*text) || OWN_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
        return None;
    }
    if text == "LD_LIBRARY_PATH" {
        let target = paths::target();
        let foreign = |dir: &PathBuf| !dir.starts_with(&target) && !dir.components().any(|part| part.as_os_str() == "toolchains");
        let value = env::join_paths(env::split_paths(&value).filter(foreign)).ok()?;
        return (!value.is_empty()).then_some((name, value));
    }
    Some((name, value))
}

/// Appends a word as the shell reads it.
pub(crate) fn quote(word: &OsStr, into: &mut Vec<u8>) {
    into.push(b'\'');
    for byte in word.as_bytes() {
        if *byte == b'\'' {
            into.extend_from_slice(b"'\\''");
        } else {
            into.push(*byte);
        }
    }
    into.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        let mut quoted = Vec::new();
        quote(OsStr::from_bytes(b"it's $HOME\n\xff"), &mut quoted);
        assert_eq!(quoted, b"'it'\\''s $HOME\n\xff'");
    }

    #[test]
    fn what_cargo_set_for_itself_is_left_out() {
        let kept = |name: &str| caller_variable((name.into(), "x".into())).is_some();
        assert!(kept("PATH") && kept("CARGO_HOME") && kept("CARGO_TARGET_DIR"));
        assert!(!kept("CARGO") && !kept("CARGO_PKG_NAME") && !kept("CARGO_MANIFEST_DIR"));
    }
}
