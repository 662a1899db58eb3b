//! Command lines that the report advises, to be pasted into a shell.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::ValueEnum;

use super::{BackendChoice, RunRequest};

/// The same session in enforce mode, its log and `--watch` left out. Options that it had stay, wherever they were set: without `--require`
/// it could get less than was asked for.
pub(super) fn enforce(request: &RunRequest, profile: Option<&str>) -> String {
    let mut words: Vec<OsString> = ["leash", "run", "--mode", "enforce"].map(Into::into).into();
    let mut option = |name: &str, value: &OsStr| words.extend([name.into(), value.to_owned()]);
    if let Some(profile) = profile {
        option("--profile", profile.as_ref());
    }
    for policy in &request.policies {
        option("--policy", policy.as_ref());
    }
    if let Some(agent) = &request.agent {
        option("--agent", agent.as_ref());
    }
    if let Some(principal) = &request.principal {
        option("--principal", principal.as_ref());
    }
    if let Some(workspace) = &request.workspace {
        option("--workspace", workspace.as_ref());
    }
    for path in &request.read_only {
        option("--ro", path.as_ref());
    }
    for path in &request.writable {
        option("--rw", path.as_ref());
    }
    for variable in &request.env {
        // What a variable was set to may be a secret; its name is enough where it is passed on.
        option("--env", OsStr::from_bytes(variable.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default()));
    }
    if let Some(user) = &request.user {
        option("--user", user.as_ref());
    }
    if request.backend != BackendChoice::Auto {
        option("--backend", &value(request.backend));
    }
    if let Some(required) = request.require {
        option("--require", &value(required));
    }
    words.push("--".into());
    words.extend(request.command.iter().cloned());
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A choice as the command line takes it.
fn value(choice: impl ValueEnum) -> OsString {
    choice.to_possible_value().map(|value| value.get_name().into()).unwrap_or_default()
}

/// The options under which a policy `FILE` adds to those that applied: a policy alone would take the profile's place.
pub(super) fn permit(request: &RunRequest, profile: Option<&str>) -> String {
    let mut words = Vec::new();
    if let Some(profile) = profile {
        words.push(format!("--profile {profile}"));
    }
    words.extend(request.policies.iter().map(|policy| format!("--policy {}", quoted(policy.as_os_str()))));
    words.push("--policy FILE".to_owned());
    words.join(" ")
}

/// A word for a shell. One with a zero byte, which no command line and no path has, is shown empty.
pub(super) fn quoted(word: &OsStr) -> String {
    let quoted = shlex::bytes::try_quote(word.as_bytes()).unwrap_or(b"''".into());
    String::from_utf8_lossy(&quoted).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::Required;

    #[test]
    fn a_hint_repeats_the_options_and_can_be_pasted() {
        let request = RunRequest {
            policies: vec!["my policies/$(id).cedar".into()],
            profile: Some("codex".into()),
            workspace: Some("/w".into()),
            env: vec!["KEY".into(), "TOKEN=secret".into()],
            backend: BackendChoice::Supervised,
            require: Some(Required::Container),
            command: vec!["sh".into(), "-c".into(), "echo 'a b'; id".into()],
            ..RunRequest::default()
        };
        let words = ["leash", "run", "--mode", "enforce", "--profile", "codex", "--policy", "my policies/$(id).cedar"];
        let more = ["--workspace", "/w", "--env", "KEY", "--env", "TOKEN", "--backend", "supervised", "--require", "container"];
        let command = ["--", "sh", "-c", "echo 'a b'; id"];
        let hint = enforce(&request, Some("codex"));
        assert_eq!(shlex::split(&hint).unwrap(), [&words[..], &more, &command].concat(), "{hint}");
        // As a shell reads it.
        let shell = std::process::Command::new("sh").args(["-c", &format!("printf '%s\\n' {hint}")]).output().unwrap();
        assert_eq!(String::from_utf8(shell.stdout).unwrap().lines().collect::<Vec<_>>(), [&words[..], &more, &command].concat());
    }

    #[test]
    fn a_permit_is_added_to_what_applied() {
        let request = RunRequest::default();
        assert_eq!(permit(&request, Some("workspace")), "--profile workspace --policy FILE");
        let request = RunRequest { policies: vec!["a b".into()], ..request };
        assert_eq!(permit(&request, None), "--policy 'a b' --policy FILE");
    }
}
