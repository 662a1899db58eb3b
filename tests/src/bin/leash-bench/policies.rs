//! The policy sets that figures are taken with.

use std::fmt::Write;

/// `rules` path rules as the figures want them: every hundredth has an inner `*`, all paths are about 60 bytes, and one of them is
/// [`probe_path`]'s directory. A permit of everything else comes first, so that the workloads run at all.
pub(crate) fn path_rules(rules: usize) -> String {
    let mut text = String::from("permit (principal, action, resource);\n");
    for rule in 0..rules {
        let (directory, effect_on) = (rule % 97, rule);
        if rule % 100 == 99 {
            let _ = writeln!(
                text,
                r#"forbid (principal, action, resource is File) when {{ resource.path like "/srv/tenants/region-{directory:02}/project-{effect_on:06}/*/private/key.pem" }};"#
            );
        } else {
            let _ = writeln!(
                text,
                r#"forbid (principal, action, resource in Dir::"/srv/tenants/region-{directory:02}/project-{effect_on:06}/private/data");"#
            );
        }
    }
    text
}

/// A path of 60 bytes that runs along the rules almost to their end and is allowed.
pub(crate) fn probe_path() -> String {
    let path = "/srv/tenants/region-05/project-000005/private/dat/file-00001".to_owned();
    debug_assert_eq!(path.len(), 60);
    path
}

/// 1,000 policies of which one decides `flips`: forbidden or permitted.
pub(crate) fn reload_rules(directory: &str, forbid_flips: bool) -> String {
    let mut text = path_rules(996);
    let _ = writeln!(
        text,
        r#"@id("denied") forbid (principal, action == Action::"FileRead", resource == File::"{directory}/denied");"#
    );
    let verb = if forbid_flips { "forbid" } else { "permit" };
    let _ = writeln!(
        text,
        r#"@id("flips") {verb} (principal, action == Action::"FileRead", resource == File::"{directory}/flips");"#
    );
    text
}
