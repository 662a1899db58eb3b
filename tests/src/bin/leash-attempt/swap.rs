//! Attempts that change an argument while the call is being decided: a second thread swaps one byte of it, so that what is read
//! twice is read differently. Each goes on until the forbidden thing happens, `TIMES` times at most.

use crate::script::{Context, Words};
use crate::sys::{Answer, Fail};
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

pub(crate) fn operate(operation: &str, w: &Words, context: &mut Context) -> Option<Answer> {
    Some(match operation {
        "swap-open" => open(w, context),
        "swap-exec" => exec(w, context),
        "swap-connect" => connect(w, context),
        "swap-map" => map(w, context),
        "swap-protect" => protect(w, context),
        _ => return None,
    })
}

/// How often each thing happened.
#[derive(Default)]
struct Counts {
    won: u64,
    allowed: u64,
    denied: u64,
    other: u64,
}

impl Counts {
    /// Succeeds when the forbidden thing happened even once.
    fn answer(&self, context: &mut Context) -> Answer {
        let Self { won, allowed, denied, other } = self;
        let text = format!("{{\"won\":{won},\"allowed\":{allowed},\"denied\":{denied},\"other\":{other}}}");
        context.data.extend_from_slice(text.as_bytes());
        if *won > 0 { Ok(0) } else { Err(Fail { errno: libc::EACCES, note: text }) }
    }

    fn wants_more(&self, w: &Words) -> bool {
        self.won == 0 && self.allowed + self.denied + self.other < w.int(2).unsigned_abs()
    }

    fn failed(&mut self) {
        match nix::errno::Errno::last_raw() {
            libc::EACCES => self.denied += 1,
            _ => self.other += 1,
        }
    }
}

/// Memory of which a second thread swaps one byte, until dropped.
struct Swapped {
    memory: Arc<Vec<AtomicU8>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapped {
    /// Swaps between two texts that differ in one byte.
    fn new(one: &[u8], other: &[u8]) -> Self {
        let differing: Vec<usize> = (0..one.len()).filter(|&at| one[at] != other[at]).collect();
        let [at] = differing[..] else { panic!("the texts must differ in one byte") };
        let memory: Arc<Vec<AtomicU8>> = Arc::new(one.iter().map(|&byte| AtomicU8::new(byte)).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, stopped, bytes) = (Arc::clone(&memory), Arc::clone(&stop), [one[at], other[at]]);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for byte in bytes {
                    theirs[at].store(byte, Ordering::Relaxed);
                    std::hint::spin_loop();
                }
            }
        });
        Self { memory, stop, thread: Some(thread) }
    }

    fn pointer<T>(&self) -> *const T {
        self.memory.as_ptr().cast()
    }
}

impl Drop for Swapped {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(std::thread::JoinHandle::join));
    }
}

fn terminated(text: &[u8]) -> Vec<u8> {
    [text, b"\0"].concat()
}

/// `swap-open VICTIM DECOY TIMES`
fn open(w: &Words, context: &mut Context) -> Answer {
    let decoy = std::fs::metadata(w.text(1))?.ino();
    let path = Swapped::new(&terminated(w.bytes(0)), &terminated(w.bytes(1)));
    let mut counts = Counts::default();
    while counts.wants_more(w) {
        // SAFETY: the path ends with a zero byte and outlives the call; that it changes is the point.
        let fd = unsafe { libc::open(path.pointer(), libc::O_RDONLY) };
        if fd < 0 {
            counts.failed();
            continue;
        }
        // SAFETY: plain integers, filled in by the call.
        let mut status: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the status outlives the call; the descriptor is ours and closed once.
        unsafe {
            libc::fstat(fd, &raw mut status);
            libc::close(fd);
        }
        if status.st_ino == decoy { counts.allowed += 1 } else { counts.won += 1 }
    }
    counts.answer(context)
}

/// `swap-exec VICTIM DECOY TIMES`, two programs or two scripts: the victim ends with status 1, the decoy with 0.
fn exec(w: &Words, context: &mut Context) -> Answer {
    let mut counts = Counts::default();
    while counts.wants_more(w) {
        // SAFETY: this program has one thread, so the child may do anything.
        match unsafe { fork() }? {
            ForkResult::Child => {
                let path = Swapped::new(&terminated(w.bytes(0)), &terminated(w.bytes(1)));
                std::thread::sleep(std::time::Duration::from_micros(50));
                let arguments = [path.pointer::<libc::c_char>(), std::ptr::null()];
                // SAFETY: path and arguments end as they must and outlive the call.
                unsafe {
                    libc::execv(path.pointer(), arguments.as_ptr());
                    libc::_exit(if nix::errno::Errno::last_raw() == libc::EACCES { 13 } else { 99 })
                }
            }
            ForkResult::Parent { child } => match waitpid(child, None)? {
                WaitStatus::Exited(_, 0) => counts.allowed += 1,
                WaitStatus::Exited(_, 1) => counts.won += 1,
                WaitStatus::Exited(_, 13) | WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGKILL, _) => counts.denied += 1,
                _ => counts.other += 1,
            },
        }
    }
    counts.answer(context)
}

/// `swap-connect VICTIM DECOY TIMES`: two IPv4 addresses; a datagram socket is connected, which sends nothing.
fn connect(w: &Words, context: &mut Context) -> Answer {
    let octets = |index: usize| w.text(index).parse::<std::net::Ipv4Addr>().expect("an address").octets();
    let address = |octets: [u8; 4]| {
        let mut bytes = (libc::AF_INET as u16).to_ne_bytes().to_vec();
        bytes.extend(7099_u16.to_be_bytes());
        bytes.extend(octets);
        bytes.extend([0; 8]);
        bytes
    };
    let swapped = Swapped::new(&address(octets(0)), &address(octets(1)));
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    let mut counts = Counts::default();
    while counts.wants_more(w) {
        // SAFETY: the address has this length and outlives the call; that it changes is the point.
        if unsafe { libc::connect(fd, swapped.pointer(), 16) } != 0 {
            counts.failed();
            continue;
        }
        match socket.peer_addr()?.ip() {
            std::net::IpAddr::V4(ip) if ip.octets() == octets(1) => counts.allowed += 1,
            _ => counts.won += 1,
        }
    }
    counts.answer(context)
}

/// Does `swap` in a second thread, over and over, while `action` runs. It stands still while the flag is set, and says so. The time from
/// one to the next varies: some calls find a swap going on, some fall between two.
fn while_swapping<T>(swap: impl Fn(bool) + Sync, action: impl FnOnce(&dyn Fn(bool)) -> T) -> T {
    let (stop, pause, paused) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(true));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            const LONGEST: u32 = 512;
            let (mut one, mut rest) = (true, 0);
            while !stop.load(Ordering::SeqCst) {
                let pauses = pause.load(Ordering::SeqCst);
                paused.store(pauses, Ordering::SeqCst);
                if !pauses {
                    swap(one);
                    one = !one;
                    // Every length once in a round, in no order: the step has no factor in common with their number.
                    rest = (rest + 197) % LONGEST;
                    for _ in 0..rest {
                        if pause.load(Ordering::SeqCst) {
                            break;
                        }
                        std::hint::spin_loop();
                    }
                }
            }
        });
        // It has begun.
        while paused.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
        let result = action(&|on| {
            pause.store(on, Ordering::SeqCst);
            while paused.load(Ordering::SeqCst) != on {
                std::hint::spin_loop();
            }
        });
        stop.store(true, Ordering::SeqCst);
        result
    })
}

/// The page at `address` (or anywhere) shows the file.
fn show(file: &File, address: *mut libc::c_void, protection: i32) -> *mut libc::c_void {
    let fixed = if address.is_null() { 0 } else { libc::MAP_FIXED };
    // SAFETY: where an address is given, this program mapped that page for nothing else.
    unsafe { libc::mmap(address, 4096, protection, libc::MAP_PRIVATE | fixed, file.as_raw_fd(), 0) }
}

/// `swap-map VICTIM DECOY TIMES`: a descriptor is mapped executable while it becomes another file's. The victim begins with `V`.
fn map(w: &Words, context: &mut Context) -> Answer {
    let (victim, decoy, slot) = (File::open(w.text(0))?, File::open(w.text(1))?, File::open("/dev/null")?);
    let mut counts = Counts::default();
    let put = |file: &File| {
        // SAFETY: no pointers; the slot is nobody else's.
        unsafe { libc::dup2(file.as_raw_fd(), slot.as_raw_fd()) };
    };
    put(&decoy);
    let swap = |one: bool| put(if one { &victim } else { &decoy });
    while_swapping(swap, |_| {
        while counts.wants_more(w) {
            let page = show(&slot, std::ptr::null_mut(), libc::PROT_READ | libc::PROT_EXEC);
            if page == libc::MAP_FAILED {
                counts.failed();
                continue;
            }
            // SAFETY: the page was just mapped from a file that has a byte, and is unmapped once.
            let first = unsafe { page.cast::<u8>().read_volatile() };
            // SAFETY: as above.
            unsafe { libc::munmap(page, 4096) };
            if first == b'V' { counts.won += 1 } else { counts.allowed += 1 }
        }
    });
    counts.answer(context)
}

/// `swap-protect VICTIM DECOY TIMES`: a page is made executable while it becomes another file's. The swapper never makes one so.
fn protect(w: &Words, context: &mut Context) -> Answer {
    let (victim, decoy) = (File::open(w.text(0))?, File::open(w.text(1))?);
    let mut counts = Counts::default();
    let page = show(&decoy, std::ptr::null_mut(), libc::PROT_READ) as usize;
    let put = |file: &File| {
        show(file, page as *mut libc::c_void, libc::PROT_READ);
    };
    let swap = |one: bool| put(if one { &victim } else { &decoy });
    let start = format!("{page:x}-");
    while_swapping(swap, |pause| {
        while counts.wants_more(w) {
            // SAFETY: nothing is in the page but what the swapper put there.
            if unsafe { libc::mprotect(page as *mut libc::c_void, 4096, libc::PROT_READ | libc::PROT_EXEC) } != 0 {
                counts.failed();
                continue;
            }
            pause(true);
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
            let won = maps.lines().any(|line| line.starts_with(&start) && line.contains(" r-xp ") && line.ends_with(w.text(0)));
            if won {
                counts.won += 1
            } else {
                counts.allowed += 1
            }
            pause(false);
        }
    });
    counts.answer(context)
}
