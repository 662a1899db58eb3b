//! System calls as data: every pointer handed to the kernel comes from a live borrow.

use nix::libc;
use std::ffi::{CStr, CString};

/// Why a statement failed: the errno, or -1 where the call itself gives none, and what can be said about it.
#[derive(Debug)]
pub(crate) struct Fail {
    pub(crate) errno: i32,
    pub(crate) note: String,
}

/// What a statement answers.
pub(crate) type Answer = Result<i64, Fail>;

impl Fail {
    pub(crate) fn last() -> Self {
        Self::from(std::io::Error::last_os_error())
    }

    pub(crate) fn note(note: impl Into<String>) -> Self {
        Self { errno: -1, note: note.into() }
    }
}

impl From<std::io::Error> for Fail {
    fn from(error: std::io::Error) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(-1), note: error.to_string() }
    }
}

impl From<nix::Error> for Fail {
    fn from(error: nix::Error) -> Self {
        Self { errno: error as i32, note: error.to_string() }
    }
}

/// An argument of a system call.
pub(crate) enum Arg<'a> {
    Int(i64),
    Str(&'a CStr),
    In(&'a [u8]),
    Out(&'a mut [u8]),
}

impl From<i64> for Arg<'_> {
    fn from(value: i64) -> Self {
        Arg::Int(value)
    }
}

impl From<i32> for Arg<'_> {
    fn from(value: i32) -> Self {
        Arg::Int(i64::from(value))
    }
}

impl<'a> From<&'a CString> for Arg<'a> {
    fn from(value: &'a CString) -> Self {
        Arg::Str(value)
    }
}

impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(value: &'a [u8]) -> Self {
        Arg::In(value)
    }
}

impl<'a> From<&'a mut [u8]> for Arg<'a> {
    fn from(value: &'a mut [u8]) -> Self {
        Arg::Out(value)
    }
}

/// Performs system call `number`.
pub(crate) fn call<const N: usize>(number: libc::c_long, args: [Arg<'_>; N]) -> Answer {
    let mut words = [0i64; 6];
    for (word, arg) in words.iter_mut().zip(args) {
        *word = match arg {
            Arg::Int(value) => value,
            Arg::Str(text) => text.as_ptr() as i64,
            Arg::In(bytes) => bytes.as_ptr() as i64,
            Arg::Out(bytes) => bytes.as_mut_ptr() as i64,
        };
    }
    let [a, b, c, d, e, f] = words;
    // SAFETY: pointers come from borrows that outlive this call, with their length passed beside them by the caller; none of
    // the calls made here changes this program's own mappings.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if answer < 0 { Err(Fail::last()) } else { Ok(answer) }
}

/// `bytes` with a terminator.
pub(crate) fn c(bytes: &[u8]) -> CString {
    CString::new(bytes).expect("no NUL in an argument")
}
