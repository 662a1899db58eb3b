//! The library behind the binary `leash`.
pub mod enforce;
