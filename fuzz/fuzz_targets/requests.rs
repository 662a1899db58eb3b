//! Any line is a request or is refused; a request gets the same answer from the tables and from Cedar.
#![no_main]

use std::sync::OnceLock;

use leash_policy::{Compiled, Principal, Request, Source, Variables, compile};
use libfuzzer_sys::fuzz_target;

const POLICIES: &str = r#"
permit(principal, action, resource in Dir::"/home");
forbid(principal, action in Action::"FileOpen", resource) when { resource.path like "*/.ssh/*" || resource.name like "*.pem" };
permit(principal, action in Action::"Network", resource is Endpoint) when { resource.port < 1024 && !resource.ip.isLoopback() };
permit(principal, action, resource is UnixSocket) when { resource.path like "@*" || context.exe == "/bin/a" };
permit(principal, action, resource is Socket) when { resource.family == "netlink" };
"#;

fn compiled() -> Option<&'static Compiled> {
    static COMPILED: OnceLock<Option<Compiled>> = OnceLock::new();
    let build = || {
        let sources = [Source { name: "fuzz.cedar".to_owned(), text: POLICIES.to_owned() }];
        compile(&sources, &Variables::default(), &Principal::default()).ok()
    };
    COMPILED.get_or_init(build).as_ref()
}

fuzz_target!(|line: &[u8]| {
    let compiled = compiled().expect("the policies of this target compile");
    if let Ok(request) = serde_json::from_slice::<Request>(line) {
        assert!(compiled.unnamed(&compiled.cedar(&request), &compiled.decide(&request)).is_some(), "{request:?}");
        let _ = compiled.explain(&request);
    }
});
