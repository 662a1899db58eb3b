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

/// The cache of kernels. It doesn't follow `CARGO_TARGET_DIR`: what it holds doesn't depend on a build, and
/// several build directories of one checkout should share it.
pub(crate) fn kernels() -> PathBuf {
    root().join("target/vm")
}
