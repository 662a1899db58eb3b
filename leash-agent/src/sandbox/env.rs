//! The environment of a session: an allow-list, because an agent's environment is where tokens leak.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::{SandboxError, plan::Identity};

/// Variables that pass from the caller. None of them holds a secret or names a socket.
const PASS: &[&str] = &[
    "PATH",
    "LANG",
    "LANGUAGE",
    "TERM",
    "COLORTERM",
    "TERM_PROGRAM",
    "TERM_PROGRAM_VERSION",
    "TZ",
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "CI",
    "COLUMNS",
    "LINES",
];
/// Beginnings of names that pass.
const PASS_PREFIXES: &[&str] = &["LC_"];
/// Tells a session's programs its name. Whoever sets it by hand only deceives themselves.
const SESSION: &str = "LEASH_SESSION";
/// Where the caller has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds the environment, each entry `KEY=value`. `extra` are the values of `--env`: `KEY=value`, or `KEY` to pass the
/// caller's value (nothing if it has none).
pub fn build(
    caller: impl IntoIterator<Item = (OsString, OsString)>,
    extra: &[OsString],
    user: &Identity,
    session: &str,
) -> Result<Vec<Vec<u8>>, SandboxError> {
    let caller: Vec<(OsString, OsString)> = caller.into_iter().collect();
    let mut variables: Vec<(OsString, OsString)> = caller.iter().filter(|(name, _)| passes(name)).cloned().collect();
    if !variables.iter().any(|(name, _)| name == "PATH") {
        variables.push(("PATH".into(), DEFAULT_PATH.into()));
    }
    for (name, value) in [
        ("HOME", user.home.as_os_str()),
        ("USER", OsStr::new(&user.name)),
        ("LOGNAME", OsStr::new(&user.name)),
        ("SHELL", user.shell.as_os_str()),
    ] {
        variables.push((name.into(), value.to_owned()));
    }
    for entry in extra {
        let (name, value) = split(entry);
        check_name(&name)?;
        let value = match value {
            Some(value) => value,
            None => match caller.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => value.clone(),
                None => continue,
            },
        };
        variables.retain(|(known, _)| *known != name);
        variables.push((name, value));
    }
    variables.push((SESSION.into(), session.into()));
    Ok(variables.into_iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect())
}

/// The session that this process says it is in.
pub fn own_session() -> Option<String> {
    std::env::var(SESSION).ok().filter(|session| !session.is_empty())
}

/// What sessions under the supervised backend have besides, unless `--env` says something else. LeakSanitizer traces its own process from one that
/// shares its memory and descriptors, which is refused there; every program built with `-fsanitize=address` would fail at its end.
pub fn for_supervised(mut environment: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    const LEAKS: &[u8] = b"LSAN_OPTIONS=";
    if !environment.iter().any(|variable| variable.starts_with(LEAKS)) {
        environment.push([LEAKS, b"detect_leaks=0"].concat());
    }
    environment
}

fn passes(name: &OsStr) -> bool {
    PASS.iter().any(|known| name == *known) || PASS_PREFIXES.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
}

fn split(entry: &OsStr) -> (OsString, Option<OsString>) {
    let bytes = entry.as_bytes();
    match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) => {
            let (name, value) = bytes.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            (OsString::from_vec(name.to_vec()), Some(OsString::from_vec(value.to_vec())))
        }
        None => (entry.to_owned(), None),
    }
}

fn check_name(name: &OsStr) -> Result<(), SandboxError> {
    let bad = |why| Err(SandboxError::BadVariable(name.to_string_lossy().into_owned(), why));
    if name.is_empty() {
        return bad("its name is empty");
    }
    if name.as_bytes().starts_with(b"LEASH_") {
        return bad("names that start with LEASH_ are Leash's own");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Identity {
        Identity {
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
            name: "ann".into(),
            home: "/home/ann".into(),
            shell: "/bin/bash".into(),
        }
    }

    fn built(caller: &[(&str, &str)], extra: &[&str]) -> Vec<String> {
        let caller = caller.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let extra: Vec<OsString> = extra.iter().map(OsString::from).collect();
        let mut built: Vec<String> =
            build(caller, &extra, &user(), "s1").unwrap().into_iter().map(|entry| String::from_utf8(entry).unwrap()).collect();
        built.sort();
        built
    }

    const FIXED: [&str; 5] = ["HOME=/home/ann", "LEASH_SESSION=s1", "LOGNAME=ann", "SHELL=/bin/bash", "USER=ann"];

    #[test]
    fn tokens_and_sockets_stay_out() {
        let built = built(
            &[
                ("PATH", "/bin"),
                ("LC_ALL", "C"),
                ("GITHUB_TOKEN", "x"),
                ("SSH_AUTH_SOCK", "/s"),
                ("LD_PRELOAD", "/l"),
                ("HOME", "/root"),
                ("LEASH_LOG", "debug"),
            ],
            &[],
        );
        let mut expected = FIXED.to_vec();
        expected.extend(["LC_ALL=C", "PATH=/bin"]);
        expected.sort_unstable();
        assert_eq!(built, expected);
    }

    #[test]
    fn named_variables_pass_or_are_set() {
        let built = built(&[("PATH", "/bin"), ("KEY", "secret=1"), ("B", "b")], &["KEY", "ABSENT", "B=c=d", "HOME=/h"]);
        for expected in ["KEY=secret=1", "B=c=d", "HOME=/h"] {
            assert!(built.contains(&expected.to_owned()), "{built:?}");
        }
        assert!(!built.iter().any(|entry| entry.starts_with("ABSENT") || entry == "HOME=/home/ann"));
    }

    #[test]
    fn a_missing_path_gets_a_default() {
        assert!(built(&[], &[]).iter().any(|entry| entry.starts_with("PATH=/usr/local/sbin:")));
    }

    #[test]
    fn impossible_names_are_refused() {
        for bad in ["=x", "LEASH_SESSION=other", ""] {
            assert!(build([], &[bad.into()], &user(), "s1").is_err(), "{bad}");
        }
    }
}
