//! The container by itself, without enforcement: what a session can see, and what is left of it. Needs root, but no BPF.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

mod governed;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use governed::leash;
use leash_agent::sandbox::cgroup::Cgroup;
use leash_agent::sandbox::plan::{Bind, Place, Plan};
use leash_agent::sandbox::{Container, LauncherEvent, RUNTIME_DIR, StateDir, Stdio3, env, user};
use nix::sys::signal::Signal;

struct Run {
    status: i32,
    stdout: String,
    stderr: String,
}

struct Session {
    container: Container,
    _cgroup: Cgroup,
    state: StateDir,
    stdin: Option<File>,
    stdout: File,
    stderr: File,
}

fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn plan(argv: &[&str], cgroup: &Cgroup, session: &str, binds: Vec<Bind>) -> Plan {
    let who = user::named("nobody").unwrap();
    let env = env::build(std::env::vars_os(), &[], &who, session).unwrap();
    Plan {
        session: session.into(),
        state_dir: Path::new(RUNTIME_DIR).join(session),
        cgroup: Some(Place { mount: cgroup.mount().into(), path: cgroup.path().into() }),
        contained: true,
        workdir: binds.first().map_or_else(|| "/".into(), |bind| bind.path.clone()),
        binds,
        private_tmp: true,
        user: who,
        argv: argv.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        env,
        terminal: false,
        supervisor: None,
        floor: Vec::new(),
    }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap()
}

fn create_with(argv: &[&str], binds: Vec<Bind>, change: impl FnOnce(&mut Plan)) -> Session {
    create_stdio(argv, binds, change, None)
}

fn create_stdio(argv: &[&str], binds: Vec<Bind>, change: impl FnOnce(&mut Plan), own: Option<OwnedFd>) -> Session {
    let session = unique();
    let cgroup = Cgroup::create(&session).unwrap();
    let state = StateDir::create(Path::new(RUNTIME_DIR), &session).unwrap();
    let (stdin, in_write) = pipe();
    let (out_read, stdout) = pipe();
    let (err_read, stderr) = pipe();
    let stdio = Stdio3 { stdin: Some(stdin), stdout: Some(own.unwrap_or(stdout)), stderr: Some(stderr) };
    let mut plan = plan(argv, &cgroup, &session, binds);
    change(&mut plan);
    let container = Container::create(&leash(), plan, stdio, None).unwrap();
    Session { container, _cgroup: cgroup, state, stdin: Some(in_write.into()), stdout: out_read.into(), stderr: err_read.into() }
}

/// A session that writes to `stdout`.
fn create_with_stdout(stdout: OwnedFd) -> Session {
    create_stdio(&["/bin/sh", "-c", "echo x && echo y >/dev/stdout"], Vec::new(), |_| {}, Some(stdout))
}

impl Session {
    fn finish(mut self, input: &[u8]) -> Run {
        let mut stdin = self.stdin.take().unwrap();
        // A reader that doesn't care makes this fail, and that is fine.
        drop(stdin.write_all(input));
        drop(stdin);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.stdout.read_to_end(&mut stdout).unwrap();
        self.stderr.read_to_end(&mut stderr).unwrap();
        let LauncherEvent::Exited(status) = self.container.event().unwrap();
        assert!(self.state.path().exists());
        Run { status, stdout: String::from_utf8_lossy(&stdout).into(), stderr: String::from_utf8_lossy(&stderr).into() }
    }
}

fn run(argv: &[&str]) -> Run {
    let mut session = create_with(argv, Vec::new(), |_| {});
    session.container.start().unwrap();
    session.finish(b"")
}

fn shell(script: &str) -> Run {
    run(&["/bin/sh", "-c", script])
}

#[test]
fn exit_statuses_are_the_commands() {
    assert_eq!(run(&["true"]).status, 0);
    assert_eq!(shell("exit 7").status, 7);
    assert_eq!(shell("kill -TERM $$").status, 128 + 15);
    let missing = run(&["no-such-command-here"]);
    assert_eq!(
        (missing.status, missing.stderr.as_str()),
        (127, "leash: cannot run `no-such-command-here`: No such file or directory\n")
    );
    assert_eq!(run(&["/etc/passwd"]).status, 126);
}

#[test]
fn nothing_runs_before_start() {
    let mut session = create_with(&["echo", "now"], Vec::new(), |_| {});
    let init = session.container.init_pid();
    assert!(Path::new(&format!("/proc/{init}")).exists());
    session.container.start().unwrap();
    assert_eq!(session.finish(b"").stdout, "now\n");
}

#[test]
fn the_session_is_unprivileged() {
    let run = shell("grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp|Uid|Groups)' /proc/self/status");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(run.stdout.contains(&format!("{set}:\t0000000000000000")), "{}", run.stdout);
    }
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "Uid:\t65534\t65534\t65534\t65534", "Groups:\t65534"] {
        assert!(run.stdout.contains(line), "{line}: {}", run.stdout);
    }
}

#[test]
fn the_host_is_read_only_and_the_workspace_is_not() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let workspace = dir.path().join("w");
    std::fs::create_dir_all(workspace.join("kept")).unwrap();
    for path in [&workspace, &workspace.join("kept")] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    let binds = vec![Bind { path: workspace.clone(), writable: true }, Bind { path: workspace.join("kept"), writable: false }];
    let script = "pwd; touch new && echo made; touch kept/no; touch ../no; touch /etc/no; ls -A /tmp; touch /tmp/yes && echo tmp; ls -A /run/leash";
    let mut session = create_with(&["/bin/sh", "-c", script], binds, |_| {});
    session.container.start().unwrap();
    let run = session.finish(b"");
    assert_eq!(run.stdout, format!("{}\nmade\ntmp\n", workspace.display()), "{}", run.stderr);
    assert_eq!(run.stderr.matches("Read-only file system").count(), 3, "{}", run.stderr);
    assert!(workspace.join("new").exists() && !Path::new("/tmp/yes").exists());
}

#[test]
fn a_workspace_below_tmp_is_bound_into_the_private_one() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::write(dir.path().join("file"), "here").unwrap();
    let binds = vec![Bind { path: dir.path().canonicalize().unwrap(), writable: true }];
    let mut session = create_with(&["/bin/sh", "-c", "cat file; ls -A /tmp | wc -l"], binds, |_| {});
    session.container.start().unwrap();
    let run = session.finish(b"");
    assert_eq!(run.stdout, "here1\n", "{}", run.stderr);
}

#[test]
fn a_symlink_in_the_place_of_a_bind_is_refused() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    let session = unique();
    let cgroup = Cgroup::create(&session).unwrap();
    let _state = StateDir::create(Path::new(RUNTIME_DIR), &session).unwrap();
    let mut plan = plan(&["true"], &cgroup, &session, vec![Bind { path: link, writable: true }]);
    plan.workdir = "/".into();
    assert!(Container::create(&leash(), plan, Stdio3::default(), None).is_err());
}

#[test]
fn escapes_by_system_call_are_refused() {
    let script = r#"
import ctypes, os, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(number, *[ctypes.c_long(a) for a in args])
    print(name, errno.errorcode.get(ctypes.get_errno(), "none") if result == -1 else "allowed")
call("mount", 165, 0, 0, 0, 0, 0)
call("unshare", 272, 0x10000000)
call("clone", 56, 0x10000000 | 17, 0, 0, 0, 0)
call("clone3", 435, 0, 0)
call("bpf", 321, 0, 0, 0)
call("io_uring", 425, 1, 0)
call("setns", 308, 0, 0)
call("open_by_handle_at", 304, 0, 0, 0)
call("tiocsti", 16, 0, 0x5412, 0)
call("tiocsti high", 16, 0, 0x5412 | 1 << 40, 0)
call("keyctl", 250, 0, 0, 0)
call("unknown", 9999)
call("getpid", 39)
"#;
    let run = run(&["python3", "-c", script]);
    let expected = "mount EPERM\nunshare EPERM\nclone EPERM\nclone3 ENOSYS\nbpf EPERM\nio_uring EPERM\nsetns EPERM\n\
        open_by_handle_at EPERM\ntiocsti EPERM\ntiocsti high EPERM\nkeyctl EPERM\nunknown ENOSYS\ngetpid allowed\n";
    assert_eq!(run.stdout, expected, "{}", run.stderr);
}

#[test]
fn pipes_carry_every_byte() {
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut session = create_with(&["sha256sum"], Vec::new(), |_| {});
    session.container.start().unwrap();
    let run = session.finish(&bytes);
    let mut outside = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    outside.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert_eq!(run.stdout.as_bytes(), outside.wait_with_output().unwrap().stdout);
}

#[test]
fn a_null_device_takes_output() {
    let mut session = create_with_stdout(std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap().into());
    session.container.start().unwrap();
    assert_eq!(session.finish(b"").status, 0);
}

#[test]
fn signals_reach_the_command() {
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut session = create_with(&["/bin/sh", "-c", script], Vec::new(), |_| {});
    session.container.start().unwrap();
    let mut ready = [0; 6];
    session.stdout.read_exact(&mut ready).unwrap();
    session.container.signal(Signal::SIGTERM).unwrap();
    let run = session.finish(b"");
    assert_eq!((run.status, run.stdout.as_str()), (3, "caught\n"));
}

#[test]
fn signal_dispositions_and_descriptors_are_clean() {
    let run = shell("cat /proc/self/status; ls /proc/self/fd | wc -l");
    for name in ["SigBlk", "SigIgn", "SigCgt"] {
        let line = run.stdout.lines().find(|line| line.starts_with(name)).unwrap();
        let set = u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap();
        // Signals from 32 on are the C library's own.
        assert_eq!(set & 0x7fff_ffff, 0, "{line}");
    }
    // The fourth descriptor is ls's own.
    assert!(run.stdout.ends_with("\n4\n"), "{}", run.stdout);
}

#[test]
fn what_a_command_leaves_behind_ends_with_it() {
    let run = shell("setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!");
    assert_eq!(run.status, 0);
    let left = std::process::Command::new("pgrep").args(["-u", "nobody", "sleep"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

#[test]
fn a_container_that_never_starts_leaves_nothing() {
    let session = create_with(&["true"], Vec::new(), |_| {});
    let init = session.container.init_pid();
    drop(session);
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap_or_default();
    // Whoever inherited it may not have reaped it yet.
    assert!(status.is_empty() || status.contains("State:\tZ"), "{status}");
}

#[test]
fn the_session_gets_its_own_terminal() {
    let session_id = unique();
    let cgroup = Cgroup::create(&session_id).unwrap();
    let _state = StateDir::create(Path::new(RUNTIME_DIR), &session_id).unwrap();
    let mut plan = plan(
        &["/bin/bash", "-c", "tty; stty size; ps -o tty=,pid= -p $$; [ -e /dev/tty ] && echo x > /dev/tty"],
        &cgroup,
        &session_id,
        vec![],
    );
    plan.terminal = true;
    let mut container = Container::create(&leash(), plan, Stdio3::default(), None).unwrap();
    let mut master = File::from(container.take_console().unwrap());
    container.start().unwrap();
    let mut text = Vec::new();
    // Ends with EIO when the last program closed the terminal.
    drop(master.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.starts_with("/dev/pts/0\r\n0 0\r\npts/0"), "{text}");
    assert!(text.ends_with("x\r\n"), "{text}");
    let LauncherEvent::Exited(status) = container.event().unwrap();
    assert_eq!(status, 0, "{text}");
}
