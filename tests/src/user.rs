//! Whom the suites act as: root, or the ordinary user that `LEASH_AS` numbers. What is planned and judged stays root's.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The ordinary user's number.
pub fn ordinary() -> Option<u32> {
    let text = std::env::var("LEASH_AS").ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`LEASH_AS` is no number: `{text}`")))
}

/// Whether that user's sessions have a container: `LEASH_BARE` says that it may have no user namespace.
pub fn has_container() -> bool {
    std::env::var_os("LEASH_BARE").is_none()
}

/// Has `command` run as that user.
pub fn act(command: &mut Command) {
    if let Some(user) = ordinary() {
        // Groups that root has are given up with it.
        command.uid(user).gid(user);
    }
}

/// Gives that user everything below `path`.
pub fn hand_over(path: impl AsRef<Path>) {
    if let Some(user) = ordinary() {
        let path = path.as_ref();
        let status = Command::new("chown").args(["-RPh", &format!("{user}:{user}")]).arg(path).status();
        assert!(status.is_ok_and(|status| status.success()), "chown {}", path.display());
    }
}
