//! Keeps the kernel's programs loaded while a suite runs. Without that, each `leash run` of a suite would have them verified again,
//! which takes many seconds on an emulated processor.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs};

/// A session that idles; it ends with the pipe to it, and so with this test program.
struct Idle {
    _child: Child,
    _directory: tempfile::TempDir,
}

/// Starts a session that idles until this test program ends.
#[allow(clippy::expect_used)] // tests: failing loudly is their job
pub fn keep_loaded() {
    static IDLE: OnceLock<Idle> = OnceLock::new();
    // A supervisor has none.
    if env::var_os("LEASH_BACKEND").is_some_and(|backend| backend == "supervised") {
        return;
    }
    IDLE.get_or_init(|| {
        fs::create_dir_all("/srv").expect("/srv can be made");
        let directory = tempfile::Builder::new().prefix("leash-idle-").tempdir_in("/srv").expect("a directory below /srv");
        let policy = directory.path().join("p.cedar");
        fs::write(&policy, "permit (principal, action, resource);").expect("a policy");
        let leash = PathBuf::from(env::var_os("LEASH_BIN").expect("LEASH_BIN names the leash binary under test"));
        let mut idle = Command::new(leash);
        idle.args(["-q", "run", "--policy"]).arg(policy).arg("--log").arg(directory.path().join("log.jsonl"));
        idle.arg("--workspace").arg(directory.path()).args(["--", "sh", "-c", "echo ready; cat"]);
        let mut child = idle.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("leash starts");
        let mut ready = [0; 6];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("the idle session starts");
        Idle { _child: child, _directory: directory }
    });
}
