//! The ways out, by family. Numbers are those of the red-team list.

pub mod files;
pub mod network;
pub mod programs;

use crate::case::{Case, Stopped};

const fn policy(
    item: u8,
    name: &'static str,
    setup: &'static str,
    script: &'static str,
    action: &'static str,
    resource: &'static str,
    id: &'static str,
) -> Case {
    Case { item, name, setup, script, stopped: Stopped::Policy(action, resource, id) }
}

const fn reason(
    item: u8,
    name: &'static str,
    setup: &'static str,
    script: &'static str,
    action: &'static str,
    resource: &'static str,
    words: &'static str,
) -> Case {
    Case { item, name, setup, script, stopped: Stopped::Reason { action, resource, words, always: false } }
}

const fn always(
    item: u8,
    name: &'static str,
    setup: &'static str,
    script: &'static str,
    action: &'static str,
    resource: &'static str,
    words: &'static str,
) -> Case {
    Case { item, name, setup, script, stopped: Stopped::Reason { action, resource, words, always: true } }
}

const fn container(item: u8, name: &'static str, script: &'static str, errors: &'static [i32]) -> Case {
    Case { item, name, setup: "", script, stopped: Stopped::Container(errors) }
}
