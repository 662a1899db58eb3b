//! The installed policy: the compiled image, walked by the same functions that the kernel runs.

use std::net::IpAddr;

use leash_common::event::Cause;
use leash_common::kind::{Kind, Protocol};
use leash_common::table::{
    Corrupt, Cursor, Decision, Image, MAGIC, PAGE_WORDS, Page, decide_row, gains_nothing, header, header_word,
    subtree_gains_nothing, walk_bytes, walk_endpoint,
};

use super::super::error::{EnforceError, Result};
use super::super::event::Mode;

/// An image with its mode and generation. A reload replaces all of it at once.
pub(super) struct Policy {
    words: Vec<u64>,
    pub(super) mode: Mode,
    pub(super) generation: u32,
}

impl Image for Policy {
    fn page(&self, number: u32) -> Option<&Page> {
        let start = number as usize * PAGE_WORDS;
        self.words.get(start..start + PAGE_WORDS)?.try_into().ok()
    }
}

impl From<Corrupt> for Denied {
    fn from(_: Corrupt) -> Self {
        Self(Cause::CorruptImage)
    }
}

/// Something other than a policy denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denied(pub(super) Cause);

impl Policy {
    pub(super) fn new(image: &[u64], mode: Mode, generation: u32) -> Result<Self> {
        if !image.len().is_multiple_of(PAGE_WORDS) || image.get(header::MAGIC) != Some(&MAGIC) {
            return Err(EnforceError::Image("it isn't made of whole pages with a header"));
        }
        Ok(Self { words: image.to_vec(), mode, generation })
    }

    fn walk(&self, start: usize, bytes: &[u8]) -> std::result::Result<Cursor<'_>, Corrupt> {
        let mut cursor = Cursor::enter(self, header_word(self, start)? as u32)?;
        walk_bytes(self, &mut cursor, bytes)?;
        Ok(cursor)
    }

    /// Where a name leads.
    pub(super) fn name(&self, path: &[u8]) -> std::result::Result<Cursor<'_>, Denied> {
        if std::str::from_utf8(path).is_err() {
            return Err(Denied(Cause::NotUtf8));
        }
        Ok(self.walk(header::START_TEXT, path)?)
    }

    /// Row of a path or name.
    pub(super) fn row(&self, path: &[u8]) -> std::result::Result<u32, Denied> {
        Ok(self.name(path)?.accept())
    }

    /// Row of an internet endpoint; an IPv4-mapped address must have been made an IPv4 address before.
    pub(super) fn endpoint_row(&self, ip: IpAddr, port: u16, protocol: Protocol) -> std::result::Result<u32, Denied> {
        let cursor = match ip {
            IpAddr::V4(ip) => walk_endpoint(self, &ip.octets(), protocol, port)?,
            IpAddr::V6(ip) => walk_endpoint(self, &ip.octets(), protocol, port)?,
        };
        Ok(cursor.accept())
    }

    /// Class of a program.
    pub(super) fn class(&self, exe: &[u8]) -> std::result::Result<u32, Denied> {
        if exe.is_empty() || std::str::from_utf8(exe).is_err() {
            return Err(Denied(Cause::UnknownProgram));
        }
        Ok(self.walk(header::START_EXE, exe)?.accept())
    }

    /// The answer of the tables.
    pub(super) fn decide(&self, row: u32, kind: Kind, class: u32) -> std::result::Result<Decision, Denied> {
        Ok(decide_row(self, row, kind, class)?)
    }

    /// Why an object may not go from the name `old` to the name `new`, if so: it would gain one of `uses` there. `tree`: it is a
    /// directory, so all below it counts.
    pub(super) fn gains(&self, old: &[u8], new: &[u8], uses: u32, tree: bool) -> Option<Cause> {
        let judged = || -> std::result::Result<bool, Denied> {
            let (mut old, mut new) = (self.name(old)?, self.name(new)?);
            if !gains_nothing(self, old.accept(), new.accept(), uses)? {
                return Ok(false);
            }
            if !tree {
                return Ok(true);
            }
            for cursor in [&mut old, &mut new] {
                let next = cursor.peek(b'/');
                cursor.follow(self, next)?;
            }
            Ok(subtree_gains_nothing(self, &old, &new)?)
        };
        match judged() {
            Ok(true) => None,
            Ok(false) => Some(Cause::GainsAccess),
            Err(Denied(cause)) => Some(cause),
        }
    }
}
