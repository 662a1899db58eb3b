//! The second seccomp filter: what depends on a system call's arguments.
//!
//! libseccomp compares whole 64-bit arguments, but the kernel reads an ioctl's command or clone's flags from the lower half, so
//! a set upper half would slip past "not equal". Hence a small classic BPF program of our own that loads the lower halves.

use nix::errno::Errno;
use nix::libc;

/// `AUDIT_ARCH_X86_64`, linux/audit.h.
const ARCH_X86_64: u32 = 0xc000_003e;
/// `__X32_SYSCALL_BIT`, asm/unistd.h.
const X32: u32 = 0x4000_0000;
/// Every `CLONE_NEW…` flag of clone(2); `CLONE_NEWTIME` shares its bit with the exit signal there.
const CLONE_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;
/// Personalities that change nothing (and the query): plain, `PER_LINUX32`, and either with `UNAME26`.
const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff];

/// Offsets in `struct seccomp_data`, linux/seccomp.h, little-endian.
pub(super) mod offset {
    pub(in crate::sandbox) const NUMBER: u32 = 0;
    pub(in crate::sandbox) const ARCH: u32 = 4;
    /// Lower half of argument `n`.
    pub(in crate::sandbox) const fn argument(n: u32) -> u32 {
        16 + 8 * n
    }
}

pub(super) const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

/// What one rule looks for in the lower half of an argument.
enum Test {
    /// Refuse if it equals one of these.
    AnyOf(&'static [u32]),
    /// Refuse unless it equals one of these.
    NoneOf(&'static [u32]),
    /// Refuse if any of these bits is set.
    Bits(u32),
    /// Refuse if it equals one of these numbers, and the next argument one of those that stand with it.
    Options(&'static [(u32, &'static [u32])]),
}

/// Commands of `ioctl` that are refused, whatever they are performed on.
const COMMANDS: [u32; 13] = [
    // Typing into another's terminal, and the console's selection.
    libc::TIOCSTI as u32,
    libc::TIOCLINUX as u32,
    // Copying, making and removing trees by name, for whoever has a directory open for reading (linux/btrfs.h): `SNAP_CREATE`, `SNAP_CREATE_V2`,
    // `SUBVOL_CREATE`, `SUBVOL_CREATE_V2`, `SNAP_DESTROY`, `SNAP_DESTROY_V2`, `SUBVOL_SETFLAGS`, `SET_RECEIVED_SUBVOL` in both its layouts.
    0x5000_9401,
    0x5000_9417,
    0x5000_940e,
    0x5000_9418,
    0x5000_940f,
    0x5000_943f,
    0x4008_941a,
    0xc0c8_9425,
    0xc0c0_9425,
    // The same of bcachefs: `SUBVOLUME_CREATE`, `SUBVOLUME_DESTROY`.
    0x4020_bc10,
    0x4020_bc11,
];

struct Rule {
    call: i64,
    argument: u32,
    test: Test,
}

const RULES: &[Rule] = &[
    Rule { call: libc::SYS_clone, argument: 0, test: Test::Bits(CLONE_NAMESPACES) },
    Rule { call: libc::SYS_ioctl, argument: 1, test: Test::AnyOf(&COMMANDS) },
    Rule { call: libc::SYS_personality, argument: 0, test: Test::NoneOf(&PERSONALITIES) },
    // `TCP_ULP` (linux/tcp.h) can make a socket one of another kind, which nobody was asked about; programs that want TLS of the kernel
    // fall back to their own. SCTP's calls by option (linux/sctp.h) name addresses in memory, for a socket to be bound or connected to.
    Rule { call: libc::SYS_setsockopt, argument: 1, test: Test::Options(&[(6, &[31]), (132, &[5, 6, 100, 101, 107, 110])]) },
    Rule { call: libc::SYS_getsockopt, argument: 1, test: Test::Options(&[(132, &[111])]) },
    // Would let a process claim another program's file as its own.
    Rule { call: libc::SYS_prctl, argument: 0, test: Test::AnyOf(&[libc::PR_SET_MM as u32]) },
];

/// The program.
fn program() -> Vec<libc::sock_filter> {
    let mut code = vec![
        load(offset::ARCH),
        jump_equal(ARCH_X86_64, 1, 0),
        give(KILL),
        load(offset::NUMBER),
        // x32 numbers have the bit set; -1, which a tracer uses to skip a call, too.
        statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, X32, 0, 1),
        give(KILL),
    ];
    for rule in RULES {
        let body = rule_body(rule);
        code.push(load(offset::NUMBER));
        code.push(jump_equal(rule.call as u32, 0, body.len() as u8));
        code.extend(body);
    }
    code.push(give(ALLOW));
    code
}

fn rule_body(rule: &Rule) -> Vec<libc::sock_filter> {
    let mut body = vec![load(offset::argument(rule.argument))];
    match rule.test {
        Test::Options(all) => {
            for (level, options) in all {
                body.extend([jump_equal(*level, 0, options.len() as u8 + 3), load(offset::argument(rule.argument + 1))]);
                for (index, option) in options.iter().enumerate() {
                    body.push(jump_equal(*option, (options.len() - index) as u8, 0));
                }
                body.extend([give(ALLOW), give(EPERM)]);
            }
            body.push(give(ALLOW));
        }
        Test::Bits(bits) => {
            body.push(statement(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, bits, 0, 1));
            body.extend([give(EPERM), give(ALLOW)]);
        }
        Test::AnyOf(values) | Test::NoneOf(values) => {
            for (index, value) in values.iter().enumerate() {
                let to_hit = (values.len() - index) as u8;
                body.push(jump_equal(*value, to_hit, 0));
            }
            let (miss, hit) = if matches!(rule.test, Test::AnyOf(_)) { (ALLOW, EPERM) } else { (EPERM, ALLOW) };
            body.extend([give(miss), give(hit)]);
        }
    }
    body
}

pub(super) fn statement(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

pub(super) fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

pub(super) fn jump_equal(value: u32, jt: u8, jf: u8) -> libc::sock_filter {
    statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, jt, jf)
}

pub(super) fn give(action: u32) -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

/// Installs the filter on this process, which must have no-new-privileges set.
pub(super) fn install() -> Result<(), Errno> {
    let mut code = program();
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    // SAFETY: `program` points to `code`, which lives through the call; the kernel copies it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::sandbox) const ARCH_X86_64: u32 = super::ARCH_X86_64;

    fn run(arch: u32, number: u32, arguments: [u64; 2]) -> u32 {
        run_program(&program(), arch, number, &arguments)
    }

    /// Runs a program as the kernel would.
    pub(in crate::sandbox) fn run_program(code: &[libc::sock_filter], arch: u32, number: u32, arguments: &[u64]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend([0; 8]);
        for index in 0..6 {
            data.extend(arguments.get(index).copied().unwrap_or_default().to_le_bytes());
        }
        let (mut at, mut accumulator) = (0, 0u32);
        loop {
            let step = code[at];
            at += 1;
            let taken = match u32::from(step.code) & !(libc::BPF_K) {
                c if c == libc::BPF_ALU | libc::BPF_RSH => {
                    accumulator >>= step.k;
                    continue;
                }
                c if c == libc::BPF_ALU | libc::BPF_AND => {
                    accumulator &= step.k;
                    continue;
                }
                c if c == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    let from = step.k as usize;
                    accumulator = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
                    continue;
                }
                c if c == libc::BPF_RET => return step.k,
                c if c == libc::BPF_JMP | libc::BPF_JEQ => accumulator == step.k,
                c if c == libc::BPF_JMP | libc::BPF_JGE => accumulator >= step.k,
                c if c == libc::BPF_JMP | libc::BPF_JSET => accumulator & step.k != 0,
                other => panic!("instruction {other:#x}"),
            };
            at += usize::from(if taken { step.jt } else { step.jf });
        }
    }

    fn native(call: i64, first: u64, second: u64) -> u32 {
        run(ARCH_X86_64, call as u32, [first, second])
    }

    #[test]
    fn other_architectures_die() {
        assert_eq!(run(0x4000_0003, 5, [0, 0]), KILL);
        assert_eq!(run(ARCH_X86_64, X32 | 1, [0, 0]), KILL);
        assert_eq!(run(ARCH_X86_64, 1, [0, 0]), ALLOW);
    }

    #[test]
    fn upper_halves_do_not_slip_past() {
        let high = 1 << 40;
        for (call, first, second) in [
            (libc::SYS_ioctl, 0, libc::TIOCSTI),
            (libc::SYS_ioctl, 0, libc::TIOCSTI | high),
            (libc::SYS_ioctl, 0, libc::TIOCLINUX),
            (libc::SYS_ioctl, 0, 0x5000_9417),
            (libc::SYS_ioctl, 0, 0x5000_940f),
            (libc::SYS_clone, libc::CLONE_NEWUSER as u64 | high, 0),
            (libc::SYS_clone, (libc::CLONE_NEWNS | libc::SIGCHLD) as u64, 0),
            (libc::SYS_personality, 0x0040_0000, 0),
            (libc::SYS_prctl, libc::PR_SET_MM as u64, 0),
        ] {
            assert_eq!(native(call, first, second), EPERM, "{call} {first:#x} {second:#x}");
        }
    }

    #[test]
    fn sockets_stay_what_they_are_and_where_they_are() {
        let answer = |call, level: u64, option: u64| {
            run_program(&program(), ARCH_X86_64, call as u32, &[3, 1 << 40 | level, 1 << 40 | option])
        };
        for (level, option) in [(6, 31), (132, 5), (132, 6), (132, 100), (132, 101), (132, 107), (132, 110)] {
            assert_eq!(answer(libc::SYS_setsockopt, level, option), EPERM, "{level} {option}");
        }
        // `TCP_NODELAY`, `SO_REUSEADDR`, `SCTP_NODELAY`, and numbers that mean something else at other levels.
        for (level, option) in [(6, 1), (1, 2), (132, 3), (0, 31), (41, 31), (17, 100), (1, 6), (6, 110), (0, 5), (282, 1)] {
            assert_eq!(answer(libc::SYS_setsockopt, level, option), ALLOW, "{level} {option}");
        }
        assert_eq!(answer(libc::SYS_getsockopt, 132, 111), EPERM);
        // What a socket is may be asked, and `SCTP_SOCKOPT_PEELOFF` gives one that is asked about when it is used.
        for (level, option) in [(6, 31), (132, 102), (132, 110), (1, 39), (6, 111)] {
            assert_eq!(answer(libc::SYS_getsockopt, level, option), ALLOW, "{level} {option}");
        }
    }

    #[test]
    fn ordinary_use_goes_on() {
        for (call, first, second) in [
            (libc::SYS_ioctl, 0, libc::TCGETS),
            (libc::SYS_ioctl, 0, libc::TIOCSCTTY),
            // `FICLONE`
            (libc::SYS_ioctl, 0, 0x4004_9409),
            (libc::SYS_clone, libc::SIGCHLD as u64, 0),
            (libc::SYS_personality, 0xffff_ffff, 0),
            (libc::SYS_personality, 0, 0),
            (libc::SYS_prctl, libc::PR_SET_NAME as u64, 0),
            (libc::SYS_openat, 0, 0),
        ] {
            assert_eq!(native(call, first, second), ALLOW, "{call} {first:#x} {second:#x}");
        }
    }
}
