//! Where things are: the checkout, and the directories below it that commands write to.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the checkout this program was built from.
pub(crate) fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// Where cargo puts what it builds: `CARGO_TARGET_DIR`, or `target` in the checkout.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Where test programs, and what they start, are built.
pub(crate) fn debug() -> PathBuf {
    target().join("debug")
}

/// What development needs and no checkout owns: kernels, third-party agents, tools of fixed versions. It is the user's, so that a fresh
/// checkout on a prepared machine has nothing to fetch: `LEASH_DEV_CACHE`, or `leash-dev` in the user's cache directory.
fn cache() -> PathBuf {
    if let Some(dir) = env::var_os("LEASH_DEV_CACHE") {
        return root().join(dir);
    }
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    caches.map_or_else(|| root().join("target/cache"), |caches| caches.join("leash-dev"))
}

/// The kernels to test on.
pub(crate) fn kernels() -> PathBuf {
    cache().join("kernels")
}

/// The third-party agents that the tests run.
pub(crate) fn agents() -> PathBuf {
    cache().join("agents")
}

/// Programs that building and checking need, at the versions that the project names.
pub(crate) fn tools() -> PathBuf {
    cache().join("tools")
}
