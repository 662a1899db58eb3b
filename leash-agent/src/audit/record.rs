//! The records of the log. Their JSON form is documented in `docs/log.md` and versioned by [`VERSION`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::words::name;

/// Version of the log's schema.
pub const VERSION: u32 = 1;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub v: u32,
    /// Number of the record in its log, from 0 and without gaps.
    pub seq: u64,
    /// When it happened, RFC 3339 in UTC with nanoseconds.
    pub time: String,
    /// Id of the session.
    pub session: String,
    /// Name of the agent.
    pub agent: String,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// The kinds of records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// Always the first.
    SessionStart(Box<SessionStart>),
    /// An action of the session.
    Event(Box<Event>),
    /// The policy was read again.
    PolicyReload(PolicyReload),
    /// Always the last, unless Leash itself was killed.
    SessionEnd(Box<SessionEnd>),
}

/// Whether denials are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What the policy denies fails.
    Enforce,
    /// Nothing fails; each record says what the policy answers.
    Record,
}

/// The policy's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The action is permitted.
    Allow,
    /// It isn't.
    Deny,
}

/// What a session started with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionStart {
    /// Version of Leash.
    pub leash: String,
    /// Backend that decides.
    pub backend: String,
    /// ABI of the Landlock floor under the session, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landlock_abi: Option<i32>,
    /// Whether there is a container around the session.
    #[serde(default = "yes")]
    pub container: bool,
    /// Backend supervised: what the kernel's programs deny beneath it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_floor: Option<String>,
    /// Release of the kernel.
    pub kernel: String,
    /// Mode.
    pub mode: Mode,
    /// The command and its arguments (lossy where they aren't UTF-8).
    pub command: Vec<String>,
    /// The workspace.
    pub workspace: String,
    /// User that the command runs as.
    pub user: String,
    /// That user's number.
    pub uid: u32,
    /// The profile, unless policies replace it.
    pub profile: Option<String>,
    /// The principal, as policies see it.
    pub principal: serde_json::Value,
    /// The policies.
    pub policies: PolicySet,
}

/// Logs from before there were sessions without a container.
fn yes() -> bool {
    true
}

/// What was compiled into the tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicySet {
    /// Counts up with each reload, from 1.
    pub generation: u32,
    /// The sources, in order.
    pub sources: Vec<PolicySource>,
    /// How many policies they hold.
    pub policies: usize,
}

/// One policy file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySource {
    /// Its name, as diagnostics show it.
    pub name: String,
    /// SHA-256 of its text, in hex.
    pub sha256: String,
}

/// An action, its resource and the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The Cedar action.
    pub action: String,
    /// On what.
    pub resource: Resource,
    /// What the policy answers.
    pub verdict: Verdict,
    /// Mode at that moment.
    pub mode: Mode,
    /// Ids of the determining policies, sorted.
    pub policies: Vec<String>,
    /// Why, in words: the policies' `@reason`, or what other than a policy decided.
    pub reason: Option<String>,
    /// The thread, as the host numbers it.
    pub pid: u32,
    /// The process.
    pub tgid: u32,
    /// Its parent.
    pub ppid: u32,
    /// Its user.
    pub uid: u32,
    /// Path of its program.
    pub exe: String,
    /// The program's path in hex, where it isn't UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe_hex: Option<String>,
    /// Error that the system call got; 0 if it went on.
    pub errno: i32,
    /// Number of equal actions that this record stands for.
    pub count: u64,
    /// Generation of the policy that answered.
    pub generation: u32,
}

/// What an action was done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// The Cedar type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Path of a `File`, `Dir` or `UnixSocket`; invalid UTF-8 is replaced, see `path_hex`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The path's bytes in hex, where it isn't UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// Name of a `Socket`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Address of an `Endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// Port of an `Endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Protocol of an `Endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// An attempt to read the policy again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyReload {
    /// Whether the new policy applies. If not, the old one stays.
    pub ok: bool,
    /// What applies now.
    pub policies: PolicySet,
    /// Why the new one was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionEnd {
    /// Exit status of `leash run`.
    pub status: i32,
    /// Why the session was ended, if not by its command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Seconds that it took.
    pub seconds: f64,
    /// What the kernel counted.
    pub totals: Totals,
    /// Actions by name and verdict.
    pub actions: BTreeMap<String, Tally>,
}

/// What the kernel counted, by verdict. `performed = recorded + folded + dropped` holds for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Allowed actions.
    pub allow: Counts,
    /// Denied actions (in record mode: that would have been denied).
    pub deny: Counts,
}

/// What became of the answers of one verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Questions that were answered.
    pub performed: u64,
    /// Answers with a record of their own.
    pub recorded: u64,
    /// Answers counted on an earlier record.
    pub folded: u64,
    /// Answers that reached no record.
    pub dropped: u64,
}

/// Allowed and denied, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Allowed.
    pub allow: u64,
    /// Denied.
    pub deny: u64,
}

impl Resource {
    /// A resource with a path.
    pub fn with_path(kind: &str, path: &[u8]) -> Self {
        let (path, path_hex) = text_and_hex(path);
        Self { path: Some(path), path_hex, ..Self::empty(kind) }
    }

    /// A `Socket`.
    pub fn socket(name: &[u8]) -> Self {
        Self { name: Some(String::from_utf8_lossy(name).into_owned()), ..Self::empty("Socket") }
    }

    /// An `Endpoint`.
    pub fn endpoint(ip: IpAddr, port: u16, protocol: &str) -> Self {
        Self { ip: Some(ip), port: Some(port), protocol: Some(protocol.to_owned()), ..Self::empty("Endpoint") }
    }

    fn empty(kind: &str) -> Self {
        Self { kind: kind.to_owned(), path: None, path_hex: None, name: None, ip: None, port: None, protocol: None }
    }

    /// As one word for people.
    pub fn words(&self) -> String {
        match (self.ip, self.port) {
            (Some(IpAddr::V6(ip)), Some(port)) => format!("[{ip}]:{port}/{}", self.protocol.as_deref().unwrap_or("?")),
            (Some(ip), Some(port)) => format!("{ip}:{port}/{}", self.protocol.as_deref().unwrap_or("?")),
            _ => self
                .path
                .as_deref()
                .or(self.name.as_deref())
                .map_or_else(|| "(unknown)".to_owned(), |text| name(text).into_owned()),
        }
    }
}

/// Bytes as text, and as hex where the text isn't exact.
pub fn text_and_hex(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(hex(bytes))),
    }
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn event() -> Event {
        Event {
            action: "FileRead".into(),
            resource: Resource::with_path("File", b"/etc/shadow"),
            verdict: Verdict::Deny,
            mode: Mode::Enforce,
            policies: vec!["secrets".into()],
            reason: Some("secrets stay secret".into()),
            pid: 5,
            tgid: 4,
            ppid: 3,
            uid: 1000,
            exe: "/usr/bin/cat".into(),
            exe_hex: None,
            errno: 13,
            count: 1,
            generation: 1,
        }
    }

    #[test]
    fn an_event_has_the_documented_form() {
        let record = Record {
            v: VERSION,
            seq: 7,
            time: "2024-02-29T12:34:56.123456789Z".into(),
            session: "s".into(),
            agent: "claude".into(),
            body: Body::Event(Box::new(event())),
        };
        let json: serde_json::Value = serde_json::to_value(&record).unwrap();
        let expected = serde_json::json!({
            "v": 1, "seq": 7, "time": "2024-02-29T12:34:56.123456789Z", "session": "s", "agent": "claude", "type": "event",
            "action": "FileRead", "resource": {"type": "File", "path": "/etc/shadow"}, "verdict": "deny", "mode": "enforce",
            "policies": ["secrets"], "reason": "secrets stay secret", "pid": 5, "tgid": 4, "ppid": 3, "uid": 1000,
            "exe": "/usr/bin/cat", "errno": 13, "count": 1, "generation": 1,
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record);
    }

    #[test]
    fn paths_that_are_no_text_lose_nothing() {
        let resource = Resource::with_path("File", b"/a\xff");
        assert_eq!(resource.path.as_deref(), Some("/a\u{fffd}"));
        assert_eq!(resource.path_hex.as_deref(), Some("2f61ff"));
        assert_eq!(Resource::with_path("File", "/ä".as_bytes()).path_hex, None);
    }

    #[test]
    fn endpoints_read_well() {
        assert_eq!(Resource::endpoint("::1".parse().unwrap(), 443, "tcp").words(), "[::1]:443/tcp");
        assert_eq!(Resource::endpoint("10.0.0.1".parse().unwrap(), 53, "udp").words(), "10.0.0.1:53/udp");
    }
}
