//! The harness of the suites that run on real kernels.
//!
//! [`attempt`] is what the agent that wants out is told and tells, [`ground`] what it finds in the machine, [`session`] runs it
//! under `leash run`, and [`case`] turns a table of attempts into proof: each succeeds without Leash, fails where the policy
//! forbids it, with errno and record, and succeeds where the policy permits it. [`hook`] does so for each hook, and asks who did it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

pub mod attempt;
pub mod case;
pub mod cases;
pub mod disk;
pub mod ground;
pub mod hook;
pub mod random;
pub mod session;
pub mod user;
