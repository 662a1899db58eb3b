//! What can go wrong between the daemon and the kernel.

use std::io;
use std::path::PathBuf;

/// A failure of the enforcing backend. Nothing was weakened by it: what was enforced before still is.
#[derive(Debug, thiserror::Error)]
pub enum EnforceError {
    /// A file of the system couldn't be read or written.
    #[error("couldn't {action} `{path}`: {source}", path = .path.display())]
    Io {
        /// The verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A `bpf(2)` call failed.
    #[error("the kernel refused to {action}: {source}; run `leash doctor` to see what this machine lacks")]
    Bpf {
        /// What was asked.
        action: String,
        /// Why.
        source: io::Error,
    },
    /// No program may be put on an LSM hook, whatever it does.
    #[error("the kernel refuses all BPF LSM programs: {0}")]
    LsmPrograms(io::Error),
    /// The kernel would take programs on LSM hooks, and not ask them.
    #[error("`bpf` isn't among this kernel's LSMs (`{0}`), so its programs would be attached and never asked")]
    NotListed(String),
    /// The supervisor can't do its work.
    #[error("the supervisor couldn't {action}: {source}")]
    Supervise {
        /// What was attempted, as an infinitive.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel's type information is damaged or of an unknown form.
    #[error("the kernel's type information (/sys/kernel/btf/vmlinux) can't be read: {0}")]
    Btf(&'static str),
    /// A structure member isn't where the programs could read it.
    #[error("this kernel has no field `{structure}.{member}`, which Leash must read; it supports kernels 6.1 to 7.2")]
    MissingField {
        /// The structure.
        structure: &'static str,
        /// The member.
        member: &'static str,
    },
    /// A member isn't laid out as the programs read it.
    #[error("field `{structure}.{member}` isn't laid out in this kernel as Leash must read it; it supports kernels 6.1 to 7.2")]
    Moved {
        /// The structure.
        structure: &'static str,
        /// The member.
        member: &'static str,
    },
    /// A hook takes no such argument.
    #[error("hook `{hook}` takes no `struct {structure}` in this kernel; Leash supports kernels 6.1 to 7.2")]
    MissingArgument {
        /// The hook.
        hook: &'static str,
        /// The structure.
        structure: &'static str,
    },
    /// A hook that every supported kernel has is missing.
    #[error(
        "this kernel has no LSM hook `{0}`; it must be built with CONFIG_BPF_LSM, CONFIG_SECURITY_PATH and CONFIG_SECURITY_NETWORK"
    )]
    MissingHook(String),
    /// The address of a kernel symbol isn't known.
    #[error("the address of `{0}` isn't in /proc/kallsyms; run as root, with the sysctl `kernel.kptr_restrict` not above 1")]
    MissingSymbol(&'static str),
    /// The embedded object can't be loaded.
    #[error("couldn't load the eBPF object: {0}")]
    Object(#[from] aya::EbpfError),
    /// A program was refused.
    #[error("couldn't load or attach the program on hook `{hook}`: {source}")]
    Program {
        /// The hook.
        hook: String,
        /// Why.
        source: Box<aya::programs::ProgramError>,
    },
    /// A link or map can't be kept beyond this process.
    #[error("couldn't pin `{name}` under /sys/fs/bpf: {reason}; is bpffs mounted there?")]
    Pin {
        /// What.
        name: String,
        /// Why.
        reason: String,
    },
    /// The image isn't one.
    #[error("the compiled policy is damaged: {0}")]
    Image(&'static str),
    /// All slots are taken.
    #[error("{0} sessions are running, which is the maximum; end one and try again")]
    TooManySessions(usize),
    /// Sessions at too many depths of the cgroup tree.
    #[error("sessions already run at {0} depths of the cgroup tree, which is the maximum; start this one beside another")]
    TooManyLevels(usize),
    /// The cgroup isn't below a cgroup v2 mount.
    #[error("`{}` isn't a cgroup v2 directory below the root", .0.display())]
    NoCgroup(PathBuf),
    /// Depths of cgroups can't be told.
    #[error(
        "leash runs in a cgroup namespace of its own, where it can't tell how deep its cgroups are; run it in the machine's own \
         cgroup namespace (docker and podman: --cgroupns=host)"
    )]
    CgroupNamespace,
    /// The container's first process isn't in the cgroup that would be governed.
    #[error("process {pid} isn't in cgroup `{}`, so its actions would not be decided", .cgroup.display())]
    Elsewhere {
        /// The process.
        pid: u32,
        /// The cgroup.
        cgroup: PathBuf,
    },
    /// A session can't be closed while it runs.
    #[error("session still has processes in its cgroup; its policy stays in force until they have ended")]
    Busy,
}

/// Short for the results of this module.
pub(super) type Result<T> = std::result::Result<T, EnforceError>;

impl EnforceError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
