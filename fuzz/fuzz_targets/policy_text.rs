//! Any text either compiles or is refused with faults that have places in it; what compiles answers as Cedar does.
#![no_main]

use leash_policy::{Principal, Request, Resource, Source, Variables, compile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let variables = Variables::from_iter([("HOME".to_owned(), "/home/\"*\\é".to_owned())]);
    let sources = [Source { name: "fuzz.cedar".to_owned(), text: text.to_owned() }];
    match compile(&sources, &variables, &Principal::default()) {
        Err(faults) => {
            assert!(faults.iter().count() > 0);
            for fault in faults.iter() {
                if let Some(span) = fault.span() {
                    assert!(text.get(span.offset()..span.offset() + span.len()).is_some(), "{fault}");
                }
            }
        }
        Ok(compiled) => {
            for path in ["/", "/a", "/home/\"*\\é", "/a/b/c"] {
                let request = Request::new("FileRead", Resource::File { path: path.to_owned() }, "/bin/a");
                if let Ok(request) = request {
                    assert!(compiled.unnamed(&compiled.cedar(&request), &compiled.decide(&request)).is_some(), "{request:?}");
                }
            }
        }
    }
});
