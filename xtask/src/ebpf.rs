//! Building `leash-ebpf`, which needs another compiler than the rest: one that builds `core` for the BPF target.
//!
//! Two kinds of toolchain will do, and whichever is complete is taken: the distribution's own rustc with its
//! sources (stable, told to accept `-Z build-std`), or rustup's nightly with `rust-src`. Both link with `bpf-linker`,
//! whose LLVM must not be older than the compiler's.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{paths, process, setup};

const TARGET: &str = "bpfel-unknown-none";

/// A compiler that can build for the BPF target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// `/usr/bin/rustc` and the sources its package brings.
    Distribution,
    /// rustup's nightly with the `rust-src` component.
    Nightly,
}

impl Toolchain {
    /// The first one that is complete on this machine.
    pub(crate) fn find() -> Option<Self> {
        [Self::Distribution, Self::Nightly].into_iter().find(|toolchain| toolchain.has_sources())
    }

    fn has_sources(self) -> bool {
        process::output(self.rustc().args(["--print", "sysroot"]))
            .is_ok_and(|sysroot| Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").exists())
    }

    /// The LLVM that it writes bitcode with.
    pub(crate) fn llvm_major(self) -> Result<String> {
        let version = process::output(self.rustc().arg("-vV"))?;
        let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "));
        let major = llvm.and_then(|version| version.split('.').next());
        Ok(major.with_context(|| format!("rustc names no LLVM version: {version}"))?.to_owned())
    }

    fn rustc(self) -> Command {
        let mut command = match self {
            Self::Distribution => Command::new("/usr/bin/rustc"),
            Self::Nightly => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", "nightly", "rustc"]);
                rustup
            }
        };
        without_cargo(&mut command);
        command
    }

    fn cargo(self) -> Command {
        let mut command = match self {
            Self::Distribution => {
                let mut cargo = Command::new("/usr/bin/cargo");
                cargo.env("RUSTC_BOOTSTRAP", "1").env("PATH", search_path("/usr/bin"));
                cargo
            }
            Self::Nightly => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", "nightly", "cargo"]);
                rustup
            }
        };
        without_cargo(&mut command);
        command
    }
}

/// What the cargo that started us set for its own toolchain would lead another one astray.
fn without_cargo(command: &mut Command) -> &mut Command {
    for name in [
        "CARGO",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTUP_TOOLCHAIN",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "LD_LIBRARY_PATH",
    ] {
        command.env_remove(name);
    }
    command
}

/// The caller's, after this directory.
fn search_path(first: &str) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(PathBuf::from(first)).chain(env::split_paths(&path));
    env::join_paths(dirs).unwrap_or(path.clone())
}

/// Builds the object and puts it where the agent's build script looks for it.
pub(crate) fn build() -> Result<()> {
    let Some(toolchain) = Toolchain::find() else {
        bail!("no compiler with sources for the BPF target; run `cargo xtask setup`");
    };
    let crate_dir = paths::root().join("leash-ebpf");
    // A directory of its own: the other toolchain's artifacts would otherwise be rebuilt in turn.
    let build_dir = paths::target().join("bpf-build");
    let mut cargo = toolchain.cargo();
    cargo.current_dir(&crate_dir).env("CARGO_TARGET_DIR", &build_dir);
    // Flags are separated so because a path may hold a space.
    let linker = format!("-Clinker={}", setup::bpf_linker().display());
    cargo.env("CARGO_ENCODED_RUSTFLAGS", [&linker, "-Ctarget-cpu=v3", "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\x1f"));
    cargo.args(["build", "--release", "--target", TARGET, "-Z", "build-std=core"]);
    if crate_dir.join("Cargo.lock").exists() {
        cargo.arg("--locked");
    }
    process::run(&mut cargo)?;
    let built = build_dir.join(TARGET).join("release/leash-ebpf");
    install(&built, &paths::target().join("bpf/leash.bpf.o"))
}

/// Copies only what changed: an untouched file spares the agent a rebuild.
fn install(built: &Path, to: &Path) -> Result<()> {
    let object = fs::read(built).with_context(|| format!("the build left no {}", built.display()))?;
    if fs::read(to).is_ok_and(|present| present == object) {
        return Ok(());
    }
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(to, object).with_context(|| format!("couldn't write {}", to.display()))
}
