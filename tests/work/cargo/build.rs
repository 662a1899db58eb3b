//! Writes a constant, as many build scripts do.

use std::{env, fs, path::Path};

fn main() {
    let directory = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&directory).join("unit.rs"), "pub const UNIT: &str = \"points\";\n").expect("OUT_DIR is writable");
    println!("cargo:rerun-if-changed=build.rs");
}
