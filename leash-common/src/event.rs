//! Records that cross the ring buffers.
//!
//! A record is a [`Header`], up to seven bytes of zeros, the resource's path (or socket name), and the program's path.

/// Bytes of a header.
pub const HEADER_BYTES: usize = 80;

/// A question and its answer.
pub const RECORD_EVENT: u8 = 0;
/// Repeats of an earlier record that were counted until their fold word was needed for another.
pub const RECORD_FLUSH: u8 = 1;
/// A packet that was asked about, and the answer. A denied one fails with `EPERM`, if anything waits for it.
pub const RECORD_PACKET: u8 = 2;

/// The fixed part of a record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `CLOCK_BOOTTIME`, in nanoseconds.
    pub time_ns: u64,
    /// Tag of the fold word that counts repeats of this record; 0 for none.
    pub fold_tag: u64,
    /// The thread, in the root pid namespace.
    pub pid: u32,
    /// The process.
    pub tgid: u32,
    /// The parent process.
    pub ppid: u32,
    /// The real user.
    pub uid: u32,
    /// Generation of the policy that decided.
    pub generation: u32,
    /// Index into the policy's reason table.
    pub reason: u32,
    /// Index of the fold word.
    pub fold_slot: u32,
    /// In a flush: how many repeats.
    pub count: u32,
    /// Number of the `Kind`.
    pub kind: u8,
    /// 1 if the policy allows.
    pub allow: u8,
    /// 1 in enforce mode.
    pub enforce: u8,
    /// Number of the [`Cause`].
    pub cause: u8,
    /// [`RECORD_EVENT`], [`RECORD_FLUSH`] or [`RECORD_PACKET`].
    pub record: u8,
    /// Number of the endpoint's `Protocol`.
    pub protocol: u8,
    /// The endpoint's port.
    pub port: u16,
    /// The endpoint's address.
    pub address: [u8; 16],
    /// Bytes of the path.
    pub path_len: u16,
    /// Bytes of the program's path.
    pub exe_len: u16,
    /// Bytes of `address`: 4, 16, or 0 if the resource is no endpoint.
    pub address_len: u8,
    /// Keeps the layout without holes.
    pub reserved: [u8; 3],
}

macro_rules! causes {
    ($($name:ident = $number:literal, $words:literal;)*) => {
        /// What decided.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Cause {
            $(#[doc = $words] $name = $number,)*
        }

        impl Cause {
            /// All causes, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The cause with this number; a number that no program writes counts as a corrupt image.
            pub const fn from_number(number: u8) -> Self {
                match number {
                    $($number => Self::$name,)*
                    _ => Self::CorruptImage,
                }
            }

            /// In words, for the log.
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)*
                }
            }
        }
    };
}

causes! {
    Policy = 0, "the policy";
    Unreachable = 1, "the object has no path under the session's root";
    NotUtf8 = 2, "the name is not UTF-8, so no policy can speak of it";
    TooLong = 3, "the path is longer than 4,095 bytes";
    Renamed = 4, "the path changed while it was read";
    NoScratch = 5, "no working memory was free";
    GainsAccess = 6, "the new name would allow what the old one does not";
    CorruptImage = 7, "the installed policy is damaged";
    UnknownAddress = 8, "the address has a form that no policy can speak of";
    UnknownProgram = 9, "the acting program is not known";
    NoImage = 10, "no policy is installed";
    Reloaded = 11, "the policy was replaced again and again during the decision";
    NoProgram = 12, "the policy lets no program do this";
    OtherProgram = 13, "it is the memory of a program to which the policy may grant something else";
    PlaceOnly = 14, "a descriptor that is only a place (O_PATH) can't be handed over by a supervisor";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_no_holes() {
        assert_eq!(size_of::<Header>(), HEADER_BYTES);
    }

    #[test]
    fn causes_and_numbers_correspond() {
        for &cause in Cause::ALL {
            assert_eq!(Cause::from_number(cause as u8), cause);
        }
    }
}
