//! `leash run` on a terminal: full-screen programs, window size, Ctrl-C, job control, and a terminal that is given back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

mod governed;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use governed::{leash, scratch};
use leash_tests::user;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};

/// A person at a terminal.
struct Person {
    master: File,
    slave: std::os::fd::OwnedFd,
    child: Child,
    seen: String,
    before: Termios,
    dir: tempfile::TempDir,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Person {
    fn run(command: &[&str]) -> Self {
        Self::start(|mut leash| {
            leash.arg("--").args(command);
            leash
        })
    }

    /// At a shell, in which `$leash` begins a session.
    fn at_shell() -> Self {
        Self::start(|leash| {
            let words = std::iter::once(leash.get_program()).chain(leash.get_args());
            let words: Vec<String> = words.map(|word| word.to_str().unwrap().to_owned()).collect();
            let mut shell = Command::new("bash");
            shell.args(["--norc", "--noediting", "-i"]).env("PS1", "> ").env("leash", words.join(" ")).env("HISTFILE", "");
            shell
        })
    }

    /// With the program that is made of `leash run OPTIONS`.
    fn start(program: impl FnOnce(Command) -> Command) -> Self {
        let dir = scratch();
        let policy = dir.path().join("p.cedar");
        fs::write(&policy, "permit (principal, action, resource);").unwrap();
        let workspace = dir.path().join("w");
        fs::create_dir(&workspace).unwrap();
        fs::write(workspace.join("long"), (1..=500).map(|n| format!("line {n}\n")).collect::<String>()).unwrap();
        let pty = openpty(Some(&size(24, 80)), None).unwrap();
        // Held by the session itself, the terminal would never hang up.
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let before = tcgetattr(&pty.slave).unwrap();
        let stdio = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut leash = Command::new(leash());
        leash.args(["run", "--policy"]).arg(policy).arg("--log").arg(dir.path().join("log.jsonl"));
        leash.arg("--workspace").arg(workspace);
        let mut leash = program(leash);
        leash.env("log", dir.path().join("log.jsonl"));
        leash.env("TERM", "xterm").stdin(stdio()).stdout(stdio()).stderr(stdio());
        user::hand_over(dir.path());
        user::act(&mut leash);
        // SAFETY: both calls are async-signal-safe, and descriptor 0 is the terminal by now.
        unsafe {
            leash.pre_exec(|| {
                nix::unistd::setsid()?;
                nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0)).map(drop)?;
                Ok(())
            });
        }
        let child = leash.spawn().unwrap();
        Self { master: pty.master.into(), slave: pty.slave, child, seen: String::new(), before, dir }
    }

    fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until `text` appears, and forgets everything up to it.
    fn wait_for(&mut self, text: &str) {
        let begin = Instant::now();
        while !self.seen.contains(text) {
            assert!(begin.elapsed() < Duration::from_secs(90), "waited for {text:?}, saw {:?}", self.seen);
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, 1000u16).unwrap() == 0 {
                continue;
            }
            let mut buffer = [0; 4096];
            let count = self.master.read(&mut buffer).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = size(rows, columns);
        // SAFETY: TIOCSWINSZ reads one `Winsize`.
        nix::errno::Errno::result(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).unwrap();
    }

    /// Waits for the end; the terminal must be as it was.
    fn finish(mut self) -> i32 {
        self.wait_for("log: ");
        let status = self.child.wait().unwrap();
        assert_eq!(tcgetattr(&self.slave).unwrap(), self.before, "the terminal was not given back");
        drop(self.dir);
        status.code().unwrap()
    }
}

#[test]
fn a_shell_has_a_terminal_with_job_control() {
    let mut person = Person::run(&["bash", "--norc", "--noediting"]);
    person.type_in("PS1='> '; echo re''ady; tty; stty size\r");
    person.wait_for("ready\r\n");
    // Without a container they are numbered with the host's.
    person.wait_for(if user::has_container() { "/dev/pts/0" } else { "/dev/pts/" });
    person.wait_for("\r\n24 80\r\n");
    person.resize(40, 132);
    person.type_in("trap 'echo chan''ged' WINCH; stty size\r");
    person.wait_for("40 132\r\n");
    // Ctrl-C ends the program in the foreground and not the shell.
    person.type_in("sleep 1000; echo status $?\r");
    person.wait_for("status $?\r\n");
    eventually_sleeping("sleep 1000");
    person.type_in("\x03");
    person.type_in("echo after''wards\r");
    person.wait_for("afterwards\r\n");
    // Ctrl-Z stops it, fg continues it.
    person.type_in("sleep 1001\r");
    person.wait_for("sleep 1001\r\n");
    eventually_sleeping("sleep 1001");
    person.type_in("\x1a");
    person.wait_for("Stopped");
    person.type_in("jobs; fg\r");
    person.wait_for("sleep 1001\r\n");
    eventually_sleeping("sleep 1001");
    person.type_in("\x03");
    person.type_in("exit 9\r");
    assert_eq!(person.finish(), 9);
}

#[test]
fn full_screen_programs_draw_and_read_keys() {
    let mut person = Person::run(&["less", "long"]);
    person.wait_for("line 1\r\n");
    person.wait_for("line 23");
    person.type_in("G");
    person.wait_for("line 500");
    person.type_in("q");
    assert_eq!(person.finish(), 0);

    let mut person = Person::run(&["vi", "-u", "NONE", "made"]);
    person.wait_for("made");
    person.type_in("ihello\x1b:wq\r");
    let file = person.dir.path().join("w/made");
    let begin = Instant::now();
    while !fs::read_to_string(&file).is_ok_and(|text| text == "hello\n") {
        assert!(begin.elapsed() < Duration::from_secs(60), "vi did not save: {:?}", person.seen);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(person.finish(), 0);
}

#[test]
fn a_session_in_the_background_leaves_the_terminal_alone_until_it_has_it() {
    let mut person = Person::at_shell();
    person.type_in("$leash -- sh -c 'read line; echo \"got $line\"; exec sleep 1004' & echo star''ted\r");
    person.wait_for("started\r\n");
    // It is started, and stopped by nobody; the shell has its terminal as it was.
    eventually_sleeping("sh -c read line; echo \"got $line\"; exec sleep 1004");
    assert_eq!(tcgetattr(&person.slave).unwrap(), person.before, "the terminal is the shell's");
    person.type_in("jobs\r");
    person.wait_for("Running");
    // What is typed is for the shell.
    person.type_in("echo sti''ll\r");
    person.wait_for("still\r\n");
    person.type_in("fg\r");
    person.wait_for("sleep 1004'");
    person.type_in("a line\r");
    person.wait_for("got a line");
    eventually_sleeping("sleep 1004");
    assert_ne!(tcgetattr(&person.slave).unwrap(), person.before, "in the foreground the terminal is the session's");
    person.type_in("\x03");
    person.wait_for("log: ");
    person.type_in("echo status $?; echo ba''ck\r");
    person.wait_for("status 130");
    person.wait_for("back\r\n");
    assert_eq!(tcgetattr(&person.slave).unwrap(), person.before, "the terminal was not given back");
    // One that ends where it began.
    person.type_in("rm \"$log\"; $leash -- sh -c 'exit 3' & wait $!; echo sta''tus $?\r");
    person.wait_for("status 3");
    assert_eq!(tcgetattr(&person.slave).unwrap(), person.before);
    person.type_in("exit 4\r");
    assert_eq!(person.child.wait().unwrap().code(), Some(4));
}

#[test]
fn a_session_that_is_stopped_gives_the_terminal_back_and_takes_it_again() {
    let mut person = Person::at_shell();
    person.type_in("$leash -- sh -c 'kill -STOP $$; exec sleep 1005'; echo sta''tus $?\r");
    eventually_stopped("sh -c kill -STOP $$; exec sleep 1005");
    let leash = children_of(person.child.id());
    nix::sys::signal::kill(leash, nix::sys::signal::Signal::SIGTSTP).unwrap();
    person.wait_for("status 147");
    assert_eq!(tcgetattr(&person.slave).unwrap(), person.before, "the terminal was not given back");
    person.type_in("fg; echo sta''tus $?\r");
    eventually_sleeping("sleep 1005");
    person.type_in("\x03");
    person.wait_for("status 130");
    assert_eq!(tcgetattr(&person.slave).unwrap(), person.before, "the terminal was not given back");
    person.type_in("exit 4\r");
    assert_eq!(person.child.wait().unwrap().code(), Some(4));
}

#[test]
fn a_terminal_that_hangs_up_ends_the_session() {
    let mut person = Person::run(&["sh", "-c", "echo re''ady; exec sleep 1002"]);
    person.wait_for("ready\r\n");
    let Person { master, slave, mut child, dir, .. } = person;
    drop(slave);
    drop(master);
    let status = child.wait().unwrap();
    assert!(!status.success());
    drop(dir);
}

/// The one child of a process.
fn children_of(parent: u32) -> nix::unistd::Pid {
    let found = Command::new("pgrep").args(["-P", &parent.to_string()]).output().unwrap();
    nix::unistd::Pid::from_raw(String::from_utf8(found.stdout).unwrap().trim().parse().unwrap())
}

/// Waits until the session's program runs, so that a key reaches it and not the shell.
fn eventually_sleeping(command: &str) {
    eventually("S", command);
}

fn eventually_stopped(command: &str) {
    eventually("T", command);
}

fn eventually(state: &str, command: &str) {
    let begin = Instant::now();
    loop {
        let pattern = command.replace('$', "\\$");
        let found = Command::new("pgrep").args(["-r", state, "-fx", &pattern]).output().unwrap();
        if found.status.success() {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{command} does not run");
        std::thread::sleep(Duration::from_millis(20));
    }
}
