//! The binary `leash` as a library: what the commands do, without `main`.
//!
//! Direction: `cli → daemon → {sandbox, enforce} → audit`. Printing lives in `cli` alone (and in the session's first process), through
//! [`words`], which all may use; `sandbox` knows nothing of policies, `enforce` nothing of containers, and `audit` is the only writer of
//! what happened.

pub mod audit;
pub mod cli;
pub mod daemon;
pub mod enforce;
pub mod sandbox;
pub mod words;
