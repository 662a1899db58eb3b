//! What configuration files may say, who is believed, and what may be weakened by whom.

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

fn caller() -> Identity {
    crate::sandbox::user::caller(None, None).unwrap()
}

/// Reads what the caller's and the machine's files say.
fn read_both(own: &str, machine: Option<&str>) -> Result<Defaults, RunError> {
    let dir = tempfile::tempdir().unwrap();
    let (system_file, own_file) = (dir.path().join("system.toml"), dir.path().join("own.toml"));
    fs::write(&own_file, own).unwrap();
    if let Some(machine) = machine {
        fs::write(&system_file, machine).unwrap();
        // Only an administrator's file counts.
        chown(&system_file, Some(0), Some(0)).expect("the test runs as root");
    }
    both(&system_file, Some(&own_file), &caller())
}

fn refused(own: &str, machine: Option<&str>) -> String {
    let error = read_both(own, machine).expect_err(own);
    assert_eq!(error.exit_status(), 2, "{error}");
    error.to_string()
}

#[test]
fn every_option_has_its_key() {
    let text = r#"
[run]
policy = ["/srv/team.cedar", "~/mine.cedar"]
profile = "codex"
mode = "record"
agent = "codex"
principal = "~/who.json"
ro = ["/srv/data"]
rw = ["~/out"]
env = ["EDITOR", "A=b"]
backend = "bpf-lsm"
require = "bpf-lsm"
watch = true
"#;
    let found = read_both(text, None).unwrap();
    let home = caller().home;
    assert_eq!(found.policy.unwrap(), ["/srv/team.cedar".into(), home.join("mine.cedar")]);
    assert_eq!((found.profile.as_deref(), found.agent.as_deref()), (Some("codex"), Some("codex")));
    assert_eq!((found.mode, found.watch), (Some(ModeChoice::Record), Some(true)));
    assert_eq!((found.backend, found.require), (Some(BackendChoice::BpfLsm), Some(Required::BpfLsm)));
    assert_eq!((found.principal.unwrap(), found.rw), (home.join("who.json"), vec![home.join("out")]));
    assert_eq!((found.ro, found.env), (vec!["/srv/data".into()], vec!["EDITOR".to_owned(), "A=b".to_owned()]));
    assert_eq!(found.files.len(), 1);
    for empty in ["", "[run]\n", "# nothing\n"] {
        let found = read_both(empty, None).unwrap();
        assert_eq!(Defaults { files: Vec::new(), ..found }, Defaults::default());
    }
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (text, words) in [
        ("[run]\nprofil = \"x\"\n", &["line 2", "profil"][..]),
        ("\n\n[runs]\n", &["line 3", "runs"]),
        ("mode = \"record\"\n", &["line 1", "mode"]),
        ("[run]\nmode = \"sometimes\"\n", &["line 2", "sometimes", "enforce"]),
        ("[run]\nmode = 1\n", &["line 2"]),
        ("[run]\npolicy = \"/one\"\n", &["line 2"]),
        ("[run]\nbackend = \"magic\"\n", &["line 2", "bpf-lsm"]),
        ("[run]\nrequire = \"supervised\"\n", &["line 2", "bpf-lsm"]),
        ("[run]\nwatch = \"yes\"\n", &["line 2"]),
        ("[run]\nuser = \"root\"\n", &["line 2", "user"]),
        ("[run]\nfiles = [\"/x\"]\n", &["line 2", "files"]),
        ("[run]\nmode = \"record\"\nmode = \"enforce\"\n", &["line 3"]),
        ("[run\n", &["line 1"]),
        ("[run]\nrw = [\"out\"]\n", &["out", "absolute"]),
        ("[run]\npolicy = [\"~other/p.cedar\"]\n", &["~other/p.cedar", "absolute"]),
        ("[run]\npolicy = []\n", &["policy", "empty"]),
    ] {
        let error = refused(text, None);
        for word in words.iter().chain(&["own.toml"]) {
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}

fn with_machine(own: &str, machine: &str) -> Result<Defaults, RunError> {
    read_both(own, Some(machine))
}

#[test]
#[ignore = "takes root, as `cargo xtask test` has it"]
fn what_the_machine_says_is_not_weakened() {
    for (own, machine) in [
        ("mode = \"record\"", "mode = \"enforce\""),
        ("backend = \"supervised\"", "backend = \"bpf-lsm\""),
        ("profile = \"codex\"", "profile = \"readonly\""),
        ("policy = [\"/srv/mine.cedar\"]", "profile = \"readonly\""),
        ("profile = \"codex\"", "policy = [\"/srv/team.cedar\"]"),
        ("agent = \"codex\"", "agent = \"gemini\""),
        ("principal = \"/srv/me.json\"", "principal = \"/srv/all.json\""),
        ("require = \"container\"", "require = \"bpf-lsm\""),
        ("rw = [\"/srv/b\"]", "rw = [\"/srv/a\"]"),
        ("env = [\"SECRET\"]", "env = [\"LANG\"]"),
    ] {
        let (own, machine) = (format!("[run]\n{own}\n"), format!("[run]\n{machine}\n"));
        let error = with_machine(&own, &machine).expect_err(&own);
        assert_eq!(error.exit_status(), 2);
        let (error, key) = (error.to_string(), own.split(['\n', ' ']).nth(1).unwrap().to_owned());
        for word in ["own.toml", "system.toml", &key] {
            assert!(error.contains(word), "{own}: {error}");
        }
        // Each by itself is fine, and so is agreement.
        with_machine(&own, "").unwrap();
        with_machine("", &machine).unwrap();
        with_machine(&machine, &machine).unwrap();
    }
}

#[test]
#[ignore = "takes root, as `cargo xtask test` has it"]
fn the_callers_file_goes_first_where_it_may() {
    let machine = "[run]\nmode = \"record\"\nro = [\"/a\"]\nwatch = true\nrequire = \"bpf-lsm\"\nprofile = \"codex\"\n";
    let found = with_machine("[run]\nmode = \"enforce\"\nro = [\"/b\"]\nwatch = false\n", machine).unwrap();
    assert_eq!((found.mode, found.watch), (Some(ModeChoice::Enforce), Some(false)));
    assert_eq!((found.ro, found.require), (vec!["/a".into(), "/b".into()], Some(Required::BpfLsm)));
    assert_eq!((found.profile.as_deref(), found.files.len()), (Some("codex"), 2));
}

#[test]
fn only_a_file_of_ones_own_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link, nothing) = (dir.path().join("own.toml"), dir.path().join("link.toml"), dir.path().join("none"));
    fs::write(&file, "[run]\nwatch = true\n").unwrap();
    symlink(&file, &link).unwrap();
    let read = |path: &Path| both(&nothing, Some(path), &caller());
    assert_eq!(read(&file).unwrap().watch, Some(true));
    assert_eq!(read(&nothing).unwrap(), Defaults::default());
    // A file where a directory should be holds no configuration either.
    assert_eq!(read(&file.join("config.toml")).unwrap(), Defaults::default());
    assert!(read(&link).unwrap_err().to_string().contains("is a link"));
    assert!(read(dir.path()).unwrap_err().to_string().contains("is not a file"));
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(read(&pipe).unwrap_err().to_string().contains("is not a file"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o646)).unwrap();
    assert!(read(&file).unwrap_err().to_string().contains("chmod go-w"));
}

#[test]
#[ignore = "takes root, as `cargo xtask test` has it"]
fn a_file_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (file, nothing) = (dir.path().join("own.toml"), dir.path().join("none"));
    fs::write(&file, "[run]\nwatch = true\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(both(&nothing, Some(&file), &caller()).unwrap().watch, Some(true));
    chown(&file, Some(54321), None).unwrap();
    assert!(both(&nothing, Some(&file), &caller()).unwrap_err().to_string().contains("somebody else"));
    assert!(both(&file, None, &caller()).unwrap_err().to_string().contains("somebody else"));
}

#[test]
fn anothers_home_is_not_the_callers() {
    let dir = tempfile::tempdir().unwrap();
    let own = Identity { home: dir.path().to_owned(), ..caller() };
    assert_eq!(own_file(&own, None), Some(dir.path().join(".config/leash/config.toml")));
    assert_eq!(own_file(&own, Some("relative".into())), Some(dir.path().join(".config/leash/config.toml")));
    assert_eq!(own_file(&own, Some("/elsewhere".into())), Some("/elsewhere/leash/config.toml".into()));
    // The variable is the caller's, and so is the home directory.
    let other = Identity { uid: own.uid + 1, ..own };
    assert_eq!(own_file(&other, None), None);
    assert_eq!(own_file(&other, Some("/elsewhere".into())), None);
}

/// Under `sudo`, with the rights of the user behind it, the groups of root given up.
#[test]
#[ignore = "takes root, as `cargo xtask test` has it"]
fn root_reads_nothing_for_a_user_that_the_user_cannot_read() {
    assert!(Uid::effective().is_root());
    let user = crate::sandbox::user::named("54321:54321").unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (file, nothing) = (dir.path().join("own.toml"), dir.path().join("none"));
    fs::write(&file, "[run]\npolicy = [\"/root/p.cedar\"]\n").unwrap();
    for mode in [0o600, 0o640] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let error = both(&nothing, Some(&file), &user).unwrap_err().to_string();
        assert!(error.contains("Permission denied"), "{error}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let found = both(&nothing, Some(&file), &user).unwrap();
    assert_eq!(found.policy_reader, Some(user.clone()));
    // The machine's file names what root reads.
    assert_eq!(both(&file, Some(&nothing), &user).unwrap().policy_reader, None);
}
