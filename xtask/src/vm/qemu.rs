//! Starting QEMU, carrying its channels, and making sure that it ends when we do.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::console::Console;
use super::guest;
use super::{Job, Output};
use crate::kernel::Kernel;
use crate::paths;

/// Machines that are started for one job at most.
const MAX_STARTS: u32 = 3;
/// An emulated machine that isn't at its command by then stands still: a boot takes seconds, on a busy processor a minute.
const BOOT_LIMIT: Duration = Duration::from_secs(240);
/// What a guest that only proves that it boots may take.
const PROBE_LIMIT: Duration = Duration::from_secs(20);
/// Like `timeout(1)`.
const TIMED_OUT: u8 = 124;

/// A directory that goes away with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        // Sockets have short paths only, so this isn't below the checkout.
        static SWEPT: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let parent = std::env::temp_dir();
        SWEPT.call_once(|| sweep(&parent));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("{SCRATCH_PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("couldn't create {}", dir.display()))?;
        Ok(Self(dir))
    }
}

const SCRATCH_PREFIX: &str = "leash-vm-";

/// Removes what runs that were killed left behind.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let numbers = name.to_str().and_then(|name| name.strip_prefix(SCRATCH_PREFIX)).and_then(|rest| rest.split_once('-'));
        let owner = numbers.and_then(|(pid, _)| pid.parse::<u32>().ok());
        let gone = |pid: u32| pid == std::process::id() || !Path::new("/proc").join(pid.to_string()).exists();
        if owner.is_some_and(gone) {
            // Somebody else's is not ours to remove, and doesn't hinder.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: it's in the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running QEMU; killed when dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        // SAFETY: prctl(2) is a plain system call, safe between fork and exec.
        unsafe {
            command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
        }
        // The signal above is bound to the thread that forks: that is the one which waits for the end.
        let child = command.spawn().context("couldn't start qemu-system-x86_64; run `cargo xtask setup`")?;
        Ok(Self(child))
    }

    /// Waits for the end; `false` if the deadline came first.
    fn wait(&mut self, limit: Option<Duration>) -> Result<bool> {
        self.wait_or(limit, || false)
    }

    /// The same, or for something else that comes first.
    fn wait_or(&mut self, limit: Option<Duration>, come: impl Fn() -> bool) -> Result<bool> {
        let start = Instant::now();
        loop {
            if self.0.try_wait()?.is_some() || come() {
                return Ok(true);
            }
            if limit.is_some_and(|limit| start.elapsed() >= limit) {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Runs the job and returns the command's exit status. A machine that fell over by the emulation's fault is started again, unless something of
/// the job ran and what it wrote is out already.
pub(super) fn run(job: &Job, kernel: &Kernel) -> Result<u8> {
    for _ in 1..MAX_STARTS {
        if let Some(status) = attempt(job, kernel, true)? {
            return Ok(status);
        }
        eprintln!("the emulated {} machine tripped over its emulation; it is started again", kernel.series.name());
    }
    attempt(job, kernel, false)?.context("the machine was not started")
}

/// Runs the job in one machine. `None` if the emulation failed and that `may_fail`.
fn attempt(job: &Job, kernel: &Kernel, may_fail: bool) -> Result<Option<u8>> {
    let scratch = Scratch::new()?;
    let dir = &scratch.0;
    fs::write(dir.join("initramfs"), guest::initramfs(kernel)?)?;
    let job_dir = dir.join("job");
    fs::create_dir(&job_dir)?;
    let merged = matches!(job.output, Output::Kept(_)) || same_output();
    guest::write_job(&job_dir, job, kernel, merged)?;
    let kvm = kvm_works(kernel, dir)?;

    let mut command = base(kernel, dir, kvm, "");
    command.args(["-m", &format!("{}M", job.mem_mib), "-smp", &job.cpus.to_string()]);
    share(&mut command, "root", Path::new("/"), true);
    share(&mut command, "job", &job_dir, false);
    for (index, path) in guest::writable(job)?.iter().enumerate() {
        share(&mut command, &format!("rw{index}"), path, false);
    }
    command.args(["-device", "virtio-serial-pci"]);
    for name in ["out", "err"] {
        command.args(["-chardev", &format!("socket,id={name},path={}/{name}", dir.display())]);
        command.args(["-device", &format!("virtserialport,chardev={name},name={name}")]);
    }

    let console = Arc::new(Mutex::new(Console::default()));
    let carriers = [
        carry(dir, "console", {
            let (console, show) = (Arc::clone(&console), job.show_console);
            move |bytes| {
                console.lock().unwrap_or_else(PoisonError::into_inner).feed(bytes);
                if show { io::stderr().write_all(bytes) } else { Ok(()) }
            }
        })?,
        carry(dir, "out", {
            let output = job.output.clone();
            move |bytes| {
                if let Output::Kept(kept) = &output {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                    return Ok(());
                }
                io::stdout().write_all(bytes).and_then(|()| io::stdout().flush())
            }
        })?,
        carry(dir, "err", |bytes| io::stderr().write_all(bytes))?,
    ];
    let mut machine = Machine::start(command)?;
    let start = Instant::now();
    let began = job_dir.join("began");
    let patient = job.timeout.is_none_or(|limit| limit > BOOT_LIMIT);
    if may_fail && !kvm && patient && !machine.wait_or(Some(BOOT_LIMIT), || began.exists())? {
        return Ok(None);
    }
    let ended = machine.wait(job.timeout.map(|limit| limit.saturating_sub(start.elapsed())))?;
    drop(machine);
    if ended {
        for carrier in carriers {
            // A carrier ends with QEMU's end of its socket; it has no way to panic.
            let _ = carrier.join();
        }
    }

    let console = console.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = match &job.output {
        Output::Passed => None,
        Output::Kept(kept) => Some(kept),
    };
    let status = fs::read_to_string(job_dir.join("status")).ok().and_then(|text| text.trim().parse().ok());
    match status {
        _ if may_fail && !kvm && console.is_emulations_fault() && (kept.is_some() || !began.exists()) => {
            if let Some(kept) = kept {
                kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
            Ok(None)
        }
        _ if console.is_fatal() => bail!("the {} kernel fell over; its console:\n{}", kernel.series.name(), console.tail()),
        _ if !ended => {
            eprintln!("error: no end after {} s; the console:\n{}", job.timeout.unwrap_or_default().as_secs(), console.tail());
            Ok(Some(TIMED_OUT))
        }
        None => bail!("the machine went down before the command ended; its console:\n{}", console.tail()),
        Some(status) => Ok(Some(status)),
    }
}

/// The command line without memory, files and ports.
fn base(kernel: &Kernel, dir: &Path, kvm: bool, append: &str) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"]);
    match kvm {
        true => command.args(["-accel", "kvm", "-cpu", "host"]),
        false => command.args(["-accel", "tcg,thread=multi", "-cpu", "max"]),
    };
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(dir.join("initramfs"));
    command.args(["-chardev", &format!("socket,id=console,path={}/console", dir.display()), "-serial", "chardev:console"]);
    // Anything that makes a kernel untrustworthy ends the machine. The limits are wide: emulated processors
    // that share two real ones with other work stand still for a while without being stuck.
    let line = format!(
        "console=ttyS0 quiet panic=-1 oops=panic softlockup_panic=1 sysctl.kernel.panic_on_rcu_stall=1 \
         watchdog_thresh=45 rcupdate.rcu_cpu_stall_timeout=90 cgroup_no_v1=all random.trust_cpu=on {append}"
    );
    command.arg("-append").arg(line.trim_end());
    command
}

fn share(command: &mut Command, tag: &str, path: &Path, readonly: bool) {
    let mut option = OsString::from(format!("local,id={tag},security_model=none,multidevs=remap"));
    if readonly {
        option.push(",readonly=on");
    }
    option.push(",path=");
    // QEMU's way to write a comma in an option.
    option.push(path.to_string_lossy().replace(',', ",,"));
    command.arg("-fsdev").arg(option);
    command.arg("-device").arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
}

/// Listens for QEMU on a socket in `dir` and hands on what comes until its end.
fn carry(dir: &Path, name: &str, mut sink: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> Result<JoinHandle<()>> {
    let listener = UnixListener::bind(dir.join(name)).with_context(|| format!("couldn't listen on {}/{name}", dir.display()))?;
    Ok(thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length) = stream.read(&mut buffer) {
            let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { return };
            // A reader that went away is no reason to stop the guest: its status still counts.
            let _ = sink(bytes);
        }
    }))
}

/// Whether stdout and stderr are the same file; then their order matters and the guest gets one for both.
fn same_output() -> bool {
    let file = |number: u32| fs::metadata(format!("/proc/self/fd/{number}")).map(|meta| (meta.dev(), meta.ino(), meta.rdev()));
    matches!((file(1), file(2)), (Ok(out), Ok(err)) if out == err)
}

/// Whether this machine's KVM boots the kernel. That it is there says little: some only run kernels of their own.
/// The answer is kept until the host reboots.
fn kvm_works(kernel: &Kernel, dir: &Path) -> Result<bool> {
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(false);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let note = paths::kernels().join(kernel.series.name()).join("kvm");
    if let Some((id, answer)) = fs::read_to_string(&note).unwrap_or_default().split_once(' ')
        && id == boot.trim()
    {
        return Ok(answer.trim() == "yes");
    }
    let console = Arc::new(Mutex::new(Console::default()));
    let carrier = carry(dir, "console", {
        let console = Arc::clone(&console);
        move |bytes| {
            console.lock().unwrap_or_else(PoisonError::into_inner).feed(bytes);
            Ok(())
        }
    })?;
    let mut command = base(kernel, dir, true, "leash.probe");
    command.args(["-m", "512M"]).stderr(Stdio::null());
    let mut machine = Machine::start(command)?;
    let ended = machine.wait(Some(PROBE_LIMIT))?;
    drop(machine);
    fs::remove_file(dir.join("console"))?;
    let works = ended && {
        // It connected, or the socket is gone and the thread waits for nobody; only the first has said a thing.
        let said = || console.lock().unwrap_or_else(PoisonError::into_inner).tail().contains("leash-vm: probe ok");
        said() || (carrier.is_finished() && said())
    };
    fs::write(note, format!("{} {}\n", boot.trim(), if works { "yes" } else { "no" }))?;
    Ok(works)
}
