#!/bin/sh
# A crate with a build script, a library, a program and tests, and no dependency that would need a registry.
set -eu
cargo build --offline
cargo test --offline --quiet
cargo run --offline --quiet -- 10 20 30
cargo clean --quiet
echo WORK-DONE
