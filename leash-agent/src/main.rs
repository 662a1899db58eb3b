//! The binary `leash`.
fn main() {}
