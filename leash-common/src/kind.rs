//! What can be asked: an action together with the type of its resource.

/// One question that a hook can ask: a Cedar action on one resource type. Its number is a symbol of the decision tables.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `FileRead` on a `File`.
    FileRead = 0,
    /// `FileWrite` on a `File`.
    FileWrite = 1,
    /// `FileCreate` on a `File` (directories, nodes and symlinks too).
    FileCreate = 2,
    /// `FileDelete` on a `File` (directories too).
    FileDelete = 3,
    /// `FileRename` on a `File`, asked of the old and of the new name.
    FileRename = 4,
    /// `FileLink` on a `File`, asked of the new name and of the linked file.
    FileLink = 5,
    /// `FileSetAttributes` on a `File`: mode, owner, times, extended attributes.
    FileSetAttributes = 6,
    /// `DirList` on a `Dir`.
    DirList = 7,
    /// `ProcessExec` on a `File`: exec, and mapping a file executable.
    ProcessExec = 8,
    /// `NetworkConnect` on an `Endpoint`.
    NetworkConnect = 9,
    /// `NetworkListen` on an `Endpoint`: bind and listen.
    NetworkListen = 10,
    /// `NetworkSend` on an `Endpoint`: a datagram with an address.
    NetworkSend = 11,
    /// `NetworkConnect` on a `UnixSocket`.
    UnixConnect = 12,
    /// `NetworkListen` on a `UnixSocket`.
    UnixListen = 13,
    /// `NetworkSend` on a `UnixSocket`.
    UnixSend = 14,
    /// `SocketCreate` on a `Socket`: every socket that is neither TCP, UDP nor Unix.
    SocketCreate = 15,
}

/// The Cedar entity type of a kind's resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// A file (or anything else with a path) by absolute path.
    File,
    /// A directory that is listed.
    Dir,
    /// An internet endpoint: address, port, protocol.
    Endpoint,
    /// A Unix socket: a path, or `@name` for an abstract one.
    UnixSocket,
    /// A socket family and protocol, named `family/protocol`.
    Socket,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::FileRead,
        Self::FileWrite,
        Self::FileCreate,
        Self::FileDelete,
        Self::FileRename,
        Self::FileLink,
        Self::FileSetAttributes,
        Self::DirList,
        Self::ProcessExec,
        Self::NetworkConnect,
        Self::NetworkListen,
        Self::NetworkSend,
        Self::UnixConnect,
        Self::UnixListen,
        Self::UnixSend,
        Self::SocketCreate,
    ];

    /// How many kinds there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The kinds, a bit a kind, that give an object a further name.
    pub const MOVES: u32 = Self::FileRename.bit() | Self::FileLink.bit();

    /// The uses, a bit a kind, that a regular file's *name* decides later: whoever moves or links a file to another name must
    /// gain none of them. `FileLink`, `FileRename` and `FileDelete` are not among them: they are asked when they happen.
    pub const LATER_USE_FILE: u32 =
        Self::FileRead.bit() | Self::FileWrite.bit() | Self::FileSetAttributes.bit() | Self::ProcessExec.bit();
    /// The same for a Unix socket.
    pub const LATER_USE_SOCKET: u32 = Self::FileSetAttributes.bit() | Self::UnixConnect.bit() | Self::UnixSend.bit();
    /// The same for all that may lie in a directory, and for the directory.
    pub const LATER_USE_BELOW_DIRECTORY: u32 = Self::LATER_USE_FILE | Self::LATER_USE_SOCKET | Self::DirList.bit();

    /// The bit that stands for this kind in a set.
    pub const fn bit(self) -> u32 {
        1 << self as u8
    }

    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        let mut i = 0;
        while i < Self::ALL.len() {
            #[allow(clippy::indexing_slicing)] // the loop's condition bounds it
            let kind = Self::ALL[i];
            if kind as u8 == number {
                return Some(kind);
            }
            i += 1;
        }
        None
    }

    /// The Cedar action's name.
    pub const fn action(self) -> &'static str {
        match self {
            Self::FileRead => "FileRead",
            Self::FileWrite => "FileWrite",
            Self::FileCreate => "FileCreate",
            Self::FileDelete => "FileDelete",
            Self::FileRename => "FileRename",
            Self::FileLink => "FileLink",
            Self::FileSetAttributes => "FileSetAttributes",
            Self::DirList => "DirList",
            Self::ProcessExec => "ProcessExec",
            Self::NetworkConnect | Self::UnixConnect => "NetworkConnect",
            Self::NetworkListen | Self::UnixListen => "NetworkListen",
            Self::NetworkSend | Self::UnixSend => "NetworkSend",
            Self::SocketCreate => "SocketCreate",
        }
    }

    /// The type of the resource.
    pub const fn resource_type(self) -> ResourceType {
        match self {
            Self::DirList => ResourceType::Dir,
            Self::NetworkConnect | Self::NetworkListen | Self::NetworkSend => ResourceType::Endpoint,
            Self::UnixConnect | Self::UnixListen | Self::UnixSend => ResourceType::UnixSocket,
            Self::SocketCreate => ResourceType::Socket,
            _ => ResourceType::File,
        }
    }
}

impl ResourceType {
    /// The Cedar entity type's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "File",
            Self::Dir => "Dir",
            Self::Endpoint => "Endpoint",
            Self::UnixSocket => "UnixSocket",
            Self::Socket => "Socket",
        }
    }
}

/// The transport of an [`ResourceType::Endpoint`], as Cedar's `resource.protocol` names it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, and MPTCP, which falls back to it.
    Tcp = 0,
    /// UDP.
    Udp = 1,
    /// ICMP datagram sockets (`ping`).
    Icmp = 2,
    /// ICMPv6 datagram sockets.
    Icmpv6 = 3,
    /// SCTP.
    Sctp = 4,
    /// UDP-Lite.
    UdpLite = 5,
    /// DCCP.
    Dccp = 6,
    /// Raw IP sockets of any protocol.
    Raw = 7,
    /// Anything else that sends to an internet address.
    Other = 8,
}

impl Protocol {
    /// All protocols, in the order of their numbers.
    pub const ALL: [Self; 9] =
        [Self::Tcp, Self::Udp, Self::Icmp, Self::Icmpv6, Self::Sctp, Self::UdpLite, Self::Dccp, Self::Raw, Self::Other];

    /// The name in policies and in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
            Self::Sctp => "sctp",
            Self::UdpLite => "udplite",
            Self::Dccp => "dccp",
            Self::Raw => "raw",
            Self::Other => "other",
        }
    }

    /// The protocol with this number in the tables.
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Tcp,
            1 => Self::Udp,
            2 => Self::Icmp,
            3 => Self::Icmpv6,
            4 => Self::Sctp,
            5 => Self::UdpLite,
            6 => Self::Dccp,
            7 => Self::Raw,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_kinds_correspond() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            assert_eq!(Kind::from_number(number as u8), Some(kind));
        }
        assert_eq!(Kind::from_number(Kind::COUNT as u8), None);
        for (number, protocol) in Protocol::ALL.into_iter().enumerate() {
            assert_eq!(protocol as usize, number);
            assert_eq!(Protocol::from_number(number as u8), protocol);
        }
    }
}
