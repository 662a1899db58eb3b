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
            // What the policies name is where answers could differ.
            let named = text.split('"').skip(1).step_by(2).take(8).map(str::to_owned);
            for path in ["/", "/a", "/home/\"*\\é", "/a/b/c"].map(str::to_owned).into_iter().chain(named) {
                for (action, resource) in [
                    ("FileRead", Resource::File { path: path.clone() }),
                    ("DirList", Resource::Dir { path: path.clone() }),
                    ("NetworkConnect", Resource::UnixSocket { path: path.clone() }),
                    ("SocketCreate", Resource::Socket { name: path }),
                ] {
                    if let Ok(request) = Request::new(action, resource, "/bin/a") {
                        assert!(compiled.unnamed(&compiled.cedar(&request), &compiled.decide(&request)).is_some(), "{request:?}");
                    }
                }
            }
        }
    }
});
