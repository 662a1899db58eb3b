//! Who the command runs as.

use nix::unistd::{Gid, Uid, User, getgrouplist};

use super::{SandboxError, plan::Identity};

/// The caller's user: the one behind `sudo` where that was used, the real one otherwise. `sudo_uid` and `sudo_gid` are the
/// variables that sudo sets; they are believed only because nobody but root can start a container.
pub fn caller(sudo_uid: Option<&str>, sudo_gid: Option<&str>) -> Result<Identity, SandboxError> {
    match sudo_uid.and_then(|uid| uid.parse().ok()) {
        Some(uid) => identity(Uid::from_raw(uid), sudo_gid.and_then(|gid| gid.parse().ok()).map(Gid::from_raw)),
        None => identity(Uid::current(), None),
    }
}

/// The user of `--user`: a name, or a number, each with an optional `:group` number.
pub fn named(text: &str) -> Result<Identity, SandboxError> {
    let unknown = || SandboxError::NoUser(text.to_owned());
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(Gid::from_raw(number(group).ok_or_else(unknown)?))),
        None => (text, None),
    };
    if user.parse::<u32>().is_ok() {
        return identity(Uid::from_raw(number(user).ok_or_else(unknown)?), group);
    }
    let entry = User::from_name(user).map_err(SandboxError::system("look up a user"))?.ok_or_else(unknown)?;
    identity(entry.uid, group)
}

/// The number of a user or a group. The last one stands for none, setresuid(2).
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

fn identity(uid: Uid, gid: Option<Gid>) -> Result<Identity, SandboxError> {
    let entry = User::from_uid(uid).map_err(SandboxError::system("look up a user"))?;
    let Some(entry) = entry else {
        let gid = gid.unwrap_or(Gid::from_raw(uid.as_raw())).as_raw();
        return Ok(Identity {
            uid: uid.as_raw(),
            gid,
            groups: vec![gid],
            name: uid.to_string(),
            home: "/".into(),
            shell: "/bin/sh".into(),
        });
    };
    let gid = gid.unwrap_or(entry.gid);
    let name = std::ffi::CString::new(entry.name.clone()).map_err(|_| SandboxError::NoUser(entry.name.clone()))?;
    let mut groups: Vec<u32> =
        getgrouplist(&name, gid).map_err(SandboxError::system("look up a user's groups"))?.into_iter().map(Gid::as_raw).collect();
    if !groups.contains(&gid.as_raw()) {
        groups.push(gid.as_raw());
    }
    Ok(Identity { uid: uid.as_raw(), gid: gid.as_raw(), groups, name: entry.name, home: entry.dir, shell: entry.shell })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let root = named("root").unwrap();
        assert_eq!((root.uid, root.gid, root.name.as_str()), (0, 0, "root"));
        assert_eq!(named("0").unwrap(), root);
        let odd = named("54321:54322").unwrap();
        assert_eq!((odd.uid, odd.gid, odd.groups), (54321, 54322, vec![54322]));
        assert!(named("no-such-user-here").is_err());
        for none in ["root:wheel", "4294967295", "root:4294967295", "4294967296"] {
            assert!(matches!(named(none), Err(SandboxError::NoUser(_))), "{none}");
        }
    }

    #[test]
    fn sudo_names_the_caller() {
        assert_eq!(caller(Some("54321"), Some("54322")).unwrap().uid, 54321);
        assert_eq!(caller(None, None).unwrap().uid, Uid::current().as_raw());
        assert_eq!(caller(Some("nonsense"), None).unwrap().uid, Uid::current().as_raw());
    }
}
