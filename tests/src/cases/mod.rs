//! The ways out, by family. Numbers are those of the red-team list.

pub mod files;
pub mod hooks;
pub mod ledger;
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

/// The case of a table with this name; that there is none is an error of the compiler.
const fn find(table: &[Case], name: &str) -> Case {
    let mut i = 0;
    while i < table.len() {
        if same(table[i].name.as_bytes(), name.as_bytes()) {
            return table[i];
        }
        i += 1;
    }
    panic!("no such case in the table")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}
