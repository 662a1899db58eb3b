//! Who asks, what is asked, and what the answer looks like.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr};

use leash_common::kind::{Kind, Protocol, ResourceType};
use leash_common::table::MAX_PATH_BYTES;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The agent of a session. Everything here is constant while the session lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Principal {
    /// Name of the agent, the id of its Cedar entity.
    pub name: String,
    /// User that it runs as.
    pub user: String,
    /// That user's number.
    pub uid: u32,
    /// Whether it is an AI agent.
    pub is_ai: bool,
    /// Labels of the workload, each `key=value`.
    pub labels: BTreeSet<String>,
    /// Teams that it belongs to.
    pub teams: Vec<String>,
}

impl Default for Principal {
    fn default() -> Self {
        Self {
            name: "agent".to_owned(),
            user: "nobody".to_owned(),
            uid: 65534,
            is_ai: true,
            labels: BTreeSet::new(),
            teams: Vec::new(),
        }
    }
}

impl Principal {
    /// The principal that a JSON object describes; what it doesn't say is as in the default one.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(|Object(principal)| principal)
    }
}

/// What an action is done to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Resource {
    /// A file, or anything else with a path.
    File {
        /// Its absolute path, canonical.
        path: String,
    },
    /// A directory that is listed.
    Dir {
        /// Its absolute path, canonical.
        path: String,
    },
    /// An internet endpoint.
    Endpoint {
        /// The address; an IPv4-mapped one means the IPv4 address.
        ip: IpAddr,
        /// The port, 0 where the protocol has none.
        port: u16,
        /// One of the names of [`Protocol`].
        protocol: String,
    },
    /// A Unix socket.
    UnixSocket {
        /// Its absolute path, or `@name` for an abstract one.
        path: String,
    },
    /// A socket that is neither TCP, UDP nor Unix.
    Socket {
        /// `family/protocol`.
        name: String,
    },
}

/// Why a request is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No such action on this type of resource.
    #[error("action `{action}` does not exist on a `{resource}` resource; the actions there are {known}")]
    Action {
        /// The action asked for.
        action: String,
        /// The type of the resource.
        resource: &'static str,
        /// What can be asked instead.
        known: String,
    },
    /// A path that the kernel would never ask about.
    #[error("path `{path}` {fault}; give it absolute and resolved, as the kernel sees it")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A protocol without a name in policies.
    #[error("protocol `{0}` is unknown; known are tcp, udp, icmp, icmpv6, sctp, udplite, dccp, raw and other")]
    Protocol(String),
    /// A socket name that isn't `family/protocol`.
    #[error("socket `{0}` is not of the form `family/protocol`, for example `netlink/route`")]
    Socket(String),
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Object<Raw>", into = "Raw")]
pub struct Request {
    pub(crate) kind: Kind,
    pub(crate) resource: Resource,
    pub(crate) exe: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    action: String,
    resource: Object<Resource>,
    context: Object<RawContext>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawContext {
    exe: String,
}

impl TryFrom<Object<Raw>> for Request {
    type Error = RequestError;

    fn try_from(Object(raw): Object<Raw>) -> Result<Self, RequestError> {
        Self::new(&raw.action, raw.resource.0, raw.context.0.exe)
    }
}

impl From<Request> for Raw {
    fn from(request: Request) -> Self {
        let (resource, context) = (Object(request.resource), Object(RawContext { exe: request.exe }));
        Self { action: request.kind.action().to_owned(), resource, context }
    }
}

/// Read from a JSON object only: what is derived takes an array, too, for its fields in their order.
#[derive(Serialize)]
#[serde(transparent)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

impl Request {
    /// A request by the name of its Cedar action.
    pub fn new(action: &str, resource: Resource, exe: impl Into<String>) -> Result<Self, RequestError> {
        let of_type = |kind: &Kind| kind.resource_type() == resource.resource_type();
        let Some(kind) = Kind::ALL.into_iter().find(|kind| of_type(kind) && kind.action() == action) else {
            let known: Vec<&str> = Kind::ALL.into_iter().filter(of_type).map(Kind::action).collect();
            let resource = resource.resource_type().name();
            return Err(RequestError::Action { action: action.to_owned(), resource, known: known.join(", ") });
        };
        let exe = exe.into();
        check_path(&exe)?;
        let resource = match resource {
            Resource::Endpoint { ip, port, protocol } => {
                if !Protocol::ALL.iter().any(|known| known.name() == protocol) {
                    return Err(RequestError::Protocol(protocol));
                }
                Resource::Endpoint { ip: ip.to_canonical(), port, protocol }
            }
            Resource::File { path } => {
                check_path(&path)?;
                Resource::File { path }
            }
            Resource::Dir { path } => {
                check_path(&path)?;
                Resource::Dir { path }
            }
            Resource::UnixSocket { path } => {
                if !path.starts_with('@') || path.contains('\0') || path.len() >= MAX_PATH_BYTES {
                    check_path(&path)?;
                }
                Resource::UnixSocket { path }
            }
            Resource::Socket { name } => match is_socket_name(&name) {
                true => Resource::Socket { name },
                false => return Err(RequestError::Socket(name)),
            },
        };
        Ok(Self { kind, resource, exe })
    }

    /// The question's kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it is asked of.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Path of the acting program.
    pub fn exe(&self) -> &str {
        &self.exe
    }
}

fn is_socket_name(name: &str) -> bool {
    if name.len() >= MAX_PATH_BYTES {
        return false;
    }
    let mut parts = name.split('/');
    let plain = |part: Option<&str>| {
        part.is_some_and(|part| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        })
    };
    plain(parts.next()) && plain(parts.next()) && parts.next().is_none()
}

/// Checks that `path` is one that the kernel can ask about.
pub(crate) fn check_path(path: &str) -> Result<(), RequestError> {
    let fault = if !path.starts_with('/') {
        "is not absolute"
    } else if path.contains('\0') {
        "contains a zero byte"
    } else if path.len() >= MAX_PATH_BYTES {
        "is longer than 4,095 bytes"
    } else if path.len() > 1 && path.ends_with('/') {
        "ends in a slash"
    } else if path != "/" && path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
        "has an empty, `.` or `..` component"
    } else {
        return Ok(());
    };
    Err(RequestError::Path { path: path.to_owned(), fault })
}

impl Resource {
    /// The Cedar type.
    pub fn resource_type(&self) -> ResourceType {
        match self {
            Self::File { .. } => ResourceType::File,
            Self::Dir { .. } => ResourceType::Dir,
            Self::Endpoint { .. } => ResourceType::Endpoint,
            Self::UnixSocket { .. } => ResourceType::UnixSocket,
            Self::Socket { .. } => ResourceType::Socket,
        }
    }

    /// The id of its Cedar entity.
    pub fn id(&self) -> String {
        match self {
            Self::File { path } | Self::Dir { path } | Self::UnixSocket { path } => path.clone(),
            Self::Socket { name } => name.clone(),
            Self::Endpoint { ip, port, protocol } => match ip {
                IpAddr::V4(ip) => format!("{protocol}/{ip}:{port}"),
                IpAddr::V6(ip) => format!("{protocol}/[{ip}]:{port}"),
            },
        }
    }
}

/// An address as Cedar's `ip()` reads it, which refuses IPv6 in dotted notation.
pub(crate) fn cedar_ip(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => hex_groups(ip),
    }
}

fn hex_groups(ip: Ipv6Addr) -> String {
    let groups: Vec<String> = ip.segments().iter().map(|group| format!("{group:x}")).collect();
    groups.join(":")
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A permit is satisfied and no forbid is.
    Allow,
    /// Everything else.
    Deny,
}

/// An answer, with the policies that determined it as Cedar defines them: the satisfied forbids, else the satisfied permits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The answer.
    pub verdict: Verdict,
    /// Ids of the determining policies, sorted. Empty for a default deny.
    pub policies: Vec<String>,
}

/// What a policy does when it is satisfied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Allows.
    Permit,
    /// Denies.
    Forbid,
}

/// A policy, as reports name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyRef {
    /// The `@id` annotation, else the file's stem and the policy's number in it.
    pub id: String,
    /// Permit or forbid.
    pub effect: Effect,
    /// The `@reason` annotation.
    pub reason: Option<String>,
    /// The `@notice` annotation: what a person should hear of that this policy permitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
    /// Name of its source.
    pub source: String,
    /// Line in the source, from 1.
    pub line: usize,
}
