//! Tells the crate where the eBPF object is, so that it can be embedded.
//!
//! The object is built by `cargo xtask build` with another compiler, into the build directory of the workspace.
//! If it isn't there, `LEASH_BPF_OBJECT` stays unset, and the place that embeds it says what to do:
//! `env!("LEASH_BPF_OBJECT", "the eBPF object isn't built: run `cargo xtask build`")`.

#![expect(clippy::disallowed_macros, reason = "this is how a build script speaks to cargo")]

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // `OUT_DIR` is some levels below the build directory, more if a target is named.
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let candidates: Vec<PathBuf> = out.ancestors().skip(1).map(|dir| dir.join("bpf/leash.bpf.o")).collect();
    match candidates.iter().find(|object| object.exists()) {
        Some(object) => {
            println!("cargo::rerun-if-changed={}", object.display());
            println!("cargo::rustc-env=LEASH_BPF_OBJECT={}", object.display());
        }
        // A file that doesn't exist counts as changed: the next build looks again.
        None => println!("cargo::rerun-if-changed={}", Path::new("no-object").display()),
    }
}
