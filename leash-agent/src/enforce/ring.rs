//! Reading ring buffers of the kernel (`Documentation/bpf/ringbuf.rst`).

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::libc;

use super::error::{EnforceError, Result};

const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
const RECORD_HEADER: u64 = 8;

/// Memory of a map.
pub(super) struct Mapping {
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to the process, not to a thread; accesses are atomic or of consumed records.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of `map` from `offset`.
    pub(super) fn new(map: BorrowedFd<'_>, length: usize, offset: u64, writable: bool) -> Result<Self> {
        let failed = |source| EnforceError::Bpf { action: "map a map into memory".into(), source };
        let length = NonZeroUsize::new(length).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?.get();
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, map.as_raw_fd(), offset as libc::off_t)
        };
        if address == libc::MAP_FAILED {
            return Err(failed(io::Error::last_os_error()));
        }
        let address = NonNull::new(address.cast()).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        Ok(Self { address, length })
    }

    /// The word at byte `offset`; `None` outside the mapping.
    pub(super) fn word(&self, offset: usize) -> Option<&AtomicU64> {
        if !offset.is_multiple_of(8) || offset.checked_add(8)? > self.length {
            return None;
        }
        // SAFETY: aligned and inside the mapping, which lives as long as `self`.
        Some(unsafe { &*self.address.as_ptr().add(offset).cast::<AtomicU64>() })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.length) };
    }
}

/// One ring buffer and its reader's place.
pub(super) struct Ring {
    fd: OwnedFd,
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    mask: u64,
}

impl Ring {
    /// A reader of the ring buffer `fd` of `size` bytes.
    pub(super) fn new(fd: OwnedFd, size: u32) -> Result<Self> {
        // SAFETY: a call without pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as usize;
        let consumer = Mapping::new(fd.as_fd(), page, 0, true)?;
        // The data follows the producer's page twice, so that no record is torn at the end.
        let producer = Mapping::new(fd.as_fd(), page + 2 * size as usize, page as u64, false)?;
        Ok(Self { fd, consumer, producer, page, mask: u64::from(size) - 1 })
    }

    /// For `poll(2)`.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Hands over the records that are complete, in order; returns how many there were.
    pub(super) fn consume(&self, mut sink: impl FnMut(&[u8])) -> usize {
        let (Some(consumer), Some(producer)) = (self.consumer.word(0), self.producer.word(0)) else { return 0 };
        let mut position = consumer.load(Ordering::Acquire);
        let mut count = 0;
        while position < producer.load(Ordering::Acquire) {
            let at = self.page + (position & self.mask) as usize;
            // SAFETY: positions stay inside the data by the mask, and records are aligned to eight bytes.
            let header = unsafe { &*self.producer.address.as_ptr().add(at).cast::<AtomicU32>() }.load(Ordering::Acquire);
            if header & BUSY != 0 {
                break;
            }
            let length = header & !DISCARD;
            if header & DISCARD == 0 {
                // SAFETY: the record is complete, lies inside the doubled data, and isn't overwritten before it is consumed.
                let record = unsafe { std::slice::from_raw_parts(self.producer.address.as_ptr().add(at + 8), length as usize) };
                sink(record);
                count += 1;
            }
            position += (u64::from(length) + RECORD_HEADER).next_multiple_of(8);
            consumer.store(position, Ordering::Release);
        }
        count
    }
}
