//! `cargo xtask setup`: brings a machine to where it can build and test, by its own package managers.
//!
//! It first looks what is missing, says what it is about to install, and then does it; with nothing missing it
//! is done in a moment, so scripts may call it each time. Where packages come from is the machine's business:
//! apt, cargo, pip and npm are used as they are configured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::ebpf::{self, Toolchain};
use crate::kernel::{self, Series};
use crate::{paths, process};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only what building needs: no machines, no third-party agents
    #[arg(long)]
    build_only: bool,
}

/// What compiles and links the workspace.
const BUILD_PACKAGES: [&str; 5] = ["gcc", "libc6-dev", "libseccomp-dev", "pkg-config", "make"];

/// What runs machines (qemu, their first stage and modules), and what the tests do in them.
const TEST_PACKAGES: [&str; 14] = [
    "bubblewrap",
    "busybox-static",
    "curl",
    "e2fsprogs",
    "git",
    "iproute2",
    "kmod",
    "procps",
    "python3",
    "python3-venv",
    "qemu-system-x86",
    "util-linux",
    "xz-utils",
    "zstd",
];

/// The distribution's compiler with its sources (Debian 12 keeps these names for the newest one).
const DISTRIBUTION_TOOLCHAIN: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Programs from the crate registry: name, version, and how to build it.
const CARGO_DENY: (&str, &str) = ("cargo-deny", "0.20.2");
const CARGO_FUZZ: (&str, &str) = ("cargo-fuzz", "0.13.2");
const BPF_LINKER: (&str, &str) = ("bpf-linker", "0.13.0");

/// What building, testing and measuring need; nothing happens on a machine that has it.
pub(crate) fn everything() -> Result<()> {
    run(&Args { build_only: false })
}

pub(crate) fn run(args: &Args) -> Result<()> {
    install_packages(args)?;
    let toolchain = install_toolchain()?;
    install_linker(toolchain)?;
    if args.build_only {
        return Ok(());
    }
    install_program(CARGO_DENY, &["--no-default-features"], None)?;
    let agents = paths::root().join("tests/agents/install.sh");
    if agents.exists() {
        process::run(&mut Command::new(agents))?;
    }
    for series in Series::ALL {
        kernel::prepare(series)?;
    }
    Ok(())
}

/// What `cargo xtask fuzz` needs.
pub(crate) fn fuzzing() -> Result<()> {
    run(&Args { build_only: true })?;
    // What is instrumented links a runtime in C++.
    apt_install(&["g++".to_owned()])?;
    install_program(CARGO_FUZZ, &[], None)
}

fn install_packages(args: &Args) -> Result<()> {
    let mut wanted: Vec<String> = BUILD_PACKAGES.map(str::to_owned).into();
    if !args.build_only {
        wanted.extend(TEST_PACKAGES.map(str::to_owned));
        // Node.js often comes from elsewhere, with npm inside.
        if !on_path("npm") {
            wanted.extend(["nodejs", "npm"].map(str::to_owned));
        }
    }
    apt_install(&wanted)
}

/// Sees to it that some compiler can build for the BPF target.
fn install_toolchain() -> Result<Toolchain> {
    if let Some(found) = Toolchain::find() {
        return Ok(found);
    }
    if apt_has(DISTRIBUTION_TOOLCHAIN[2]) {
        apt_install(&DISTRIBUTION_TOOLCHAIN.map(str::to_owned))?;
    } else if on_path("rustup") {
        eprintln!("installing by rustup: nightly with rust-src");
        let mut rustup = Command::new("rustup");
        process::run(rustup.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]))?;
    }
    Toolchain::find().context("found no compiler with sources for the BPF target: neither apt nor rustup has one")
}

/// The linker has to understand what the compiler writes, so it is built with the compiler's LLVM version.
fn install_linker(toolchain: Toolchain) -> Result<()> {
    if ebpf::cargo_bin().join(BPF_LINKER.0).exists() || on_path(BPF_LINKER.0) {
        return Ok(());
    }
    let llvm = toolchain.llvm_major()?;
    let packages =
        [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"), "zlib1g-dev".to_owned(), "libzstd-dev".to_owned()];
    apt_install(&packages).with_context(|| format!("bpf-linker needs LLVM {llvm}, the version of the compiler"))?;
    let feature = format!("llvm-{llvm}");
    install_program(BPF_LINKER, &["--no-default-features", "--features", &feature], Some(format!("/usr/lib/llvm-{llvm}")))
}

fn install_program((name, version): (&str, &str), options: &[&str], llvm: Option<String>) -> Result<()> {
    if ebpf::cargo_bin().join(name).exists() || on_path(name) {
        return Ok(());
    }
    eprintln!("installing by cargo: {name} {version}");
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "--quiet", "--locked", name, "--version", version]).args(options);
    // Installing is no build of this workspace: neither its toolchain's variables nor its build directory apply.
    cargo.env_remove("CARGO_TARGET_DIR").current_dir(paths::root());
    // They run for seconds: compiling them well would take longer than it saves.
    cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    cargo.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    if let Some(llvm) = llvm {
        cargo.env("LLVM_PREFIX", llvm);
    }
    process::run(&mut cargo)
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| is_executable(&dir.join(program)))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Whether apt could install the package.
fn apt_has(package: &str) -> bool {
    let mut policy = Command::new("apt-cache");
    process::output(policy.env("LC_ALL", "C").args(["policy", package]))
        .is_ok_and(|text| text.lines().any(|line| line.trim().strip_prefix("Candidate: ").is_some_and(|found| found != "(none)")))
}

fn apt_install(wanted: &[String]) -> Result<()> {
    let missing = missing_packages(wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing by apt: {}", missing.join(" "));
    process::run(as_root("apt-get").args(["-qq", "update"]))?;
    let mut install = as_root("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "--yes", "--no-install-recommends", "install"]);
    // Its progress is of no use in a log; its errors come on stderr.
    process::run(install.args(&missing).stdout(Stdio::null()))
}

fn missing_packages(wanted: &[String]) -> Result<Vec<String>> {
    if !PathBuf::from("/usr/bin/dpkg-query").exists() {
        bail!("this machine has no apt; install the counterparts of these by hand: {}", wanted.join(" "));
    }
    // Exits with 1 as soon as one package is unknown; what it prints for the others is complete all the same.
    let mut query = Command::new("dpkg-query");
    let output = query.args(["--show", "--showformat=${Package} ${db:Status-Status}\n"]).args(wanted).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let installed: Vec<&str> = text.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    Ok(wanted.iter().filter(|package| !installed.contains(&package.as_str())).cloned().collect())
}

fn as_root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.arg("DEBIAN_FRONTEND=noninteractive").arg(program);
    sudo
}
