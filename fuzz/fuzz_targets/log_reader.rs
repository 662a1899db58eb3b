//! Any text is a log or is refused with its line; what is shown of it can't command a terminal, and what was read can be written and
//! read again.
#![no_main]

use leash_agent::audit::show::{is_denial, line, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for (number, record) in (1..).zip(text.lines()) {
        match parse(number, record) {
            Err(fault) => assert!(fault.to_string().starts_with(&format!("line {number} "))),
            Ok(record) => {
                let (_, words) = line(&record);
                assert!(!words.as_str().chars().any(char::is_control), "{words}");
                let _ = is_denial(&record);
                let again = serde_json::to_string(&record).expect("a record can be written");
                assert_eq!(serde_json::to_string(&parse(number, &again).expect("it can be read")).ok(), Some(again));
            }
        }
    }
});
