//! The floor under a supervised session: a Landlock domain of the command's own, which holds whatever becomes of the supervisor.
//!
//! The supervisor performs nearly everything itself, outside of the domain, so the command needs next to nothing: what the kernel
//! performs for it after an answer is the opening of programs. Descriptors that the supervisor hands over carry its rights, not the
//! domain's. The domain knows neither callers nor containers: whoever calls `install` is in it, with all that it starts.

use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    path_beneath_rules,
};
use nix::libc;

/// The newest ABI whose rights were looked at. Those that a kernel doesn't have are left out, those of a newer one aren't known.
const NEWEST: ABI = ABI::V10;

/// `LANDLOCK_CREATE_RULESET_VERSION`, linux/landlock.h.
const VERSION: u32 = 1;

/// Which ABI of Landlock a floor has on this kernel; `None` where it has no Landlock, or doesn't use it.
pub fn abi() -> Option<i32> {
    // SAFETY: without a structure and with this flag the call only tells its version.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    (version > 0).then(|| (version as i32).min(NEWEST as i32))
}

/// Puts this process, which must have one thread, on the floor: it may execute files beneath these directories, and nothing else that
/// Landlock knows. A directory that isn't there, or can't be reached, is left out. Where the kernel has no Landlock there is none.
pub(super) fn install(executable: &[PathBuf]) -> io::Result<()> {
    let failed = |error: landlock::RulesetError| io::Error::other(error.to_string());
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        // The kernel opens a program for reading, too.
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(executable, AccessFs::Execute | AccessFs::ReadFile)))
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(failed)?;
    if abi().is_some() && status.ruleset == RulesetStatus::NotEnforced {
        return Err(io::Error::other("the kernel has Landlock and did not enforce it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::process::Command;

    /// Does `action` in a thread of its own on a floor: a domain is its thread's.
    fn on_floor<T: Send>(executable: &[PathBuf], action: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    install(executable).unwrap();
                    action()
                })
                .join()
                .unwrap()
        })
    }

    fn errno<T>(result: io::Result<T>) -> i32 {
        result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
    }

    #[test]
    fn nothing_but_the_start_of_some_programs_is_possible_without_a_supervisor() {
        let abi = abi().expect("the kernels that Leash is tested on have Landlock");
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let (open, shut) = (dir.path().join("open"), dir.path().join("shut"));
        for place in [&open, &shut] {
            fs::create_dir(place).unwrap();
            fs::copy("/bin/true", place.join("program")).unwrap();
            fs::write(place.join("script"), format!("#!{}/program\n", open.display())).unwrap();
            fs::set_permissions(place.join("script"), fs::metadata("/bin/true").unwrap().permissions()).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap();
        let name = SocketAddr::from_abstract_name(format!("leash-floor-{}", std::process::id())).unwrap();
        let _abstract = UnixListener::bind_addr(&name).unwrap();
        // Each first as it is without a floor. (Scopes and networks came later than the rest.)
        let attempts = |place: PathBuf| {
            let file = place.join("file");
            let start = |name: &str| errno(Command::new(place.join(name)).status());
            let mut results = vec![
                ("create", errno(File::create(&file))),
                ("read", errno(File::open(place.join("program")))),
                ("write", errno(File::options().append(true).open(place.join("script")))),
                ("list", errno(fs::read_dir(&place))),
                ("link", errno(fs::hard_link(place.join("script"), place.join("link")))),
                ("rename", errno(fs::rename(place.join("old"), place.join("new")))),
                ("make directory", errno(fs::create_dir(place.join("dir")))),
                ("remove", errno(fs::remove_file(place.join("spare")))),
                ("start", start("program")),
                ("start script", start("script")),
            ];
            if abi >= 4 {
                results.push(("connect", errno(TcpStream::connect(port))));
                results.push(("bind", errno(TcpListener::bind("127.0.0.1:0"))));
            }
            if abi >= 6 {
                results.push(("abstract", errno(UnixStream::connect_addr(&name))));
                // SAFETY: signal 0 only asks whether one could be sent.
                results.push((
                    "signal",
                    errno(nix::errno::Errno::result(unsafe { libc::kill(libc::getppid(), 0) }).map_err(Into::into)),
                ));
            }
            results
        };
        let again = || ["old", "spare"].map(|name| fs::write(shut.join(name), "").unwrap());
        again();
        for (what, errno) in attempts(shut.clone()) {
            assert_eq!(errno, 0, "{what} without a floor");
        }
        fs::remove_file(shut.join("link")).unwrap();
        fs::remove_dir(shut.join("dir")).unwrap();
        again();
        let directories = [open.clone(), "/usr".into(), "/lib".into(), "/lib64".into()];
        for (what, errno) in on_floor(&directories, || attempts(shut.clone())) {
            let expected = if matches!(what, "signal" | "abstract") { libc::EPERM } else { libc::EACCES };
            assert_eq!(errno, expected, "{what}");
        }
        for name in ["program", "script"] {
            let start = || errno(Command::new(open.join(name)).status());
            assert_eq!(on_floor(&directories, start), 0, "{name}");
        }
        let missing = || errno(Command::new(open.join("program")).status());
        assert_eq!(on_floor(&["/no/such/directory".into()], missing), libc::EACCES);
    }
}
