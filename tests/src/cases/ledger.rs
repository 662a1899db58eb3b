//! Every hook that a kernel of the matrix has, and whether it needs a program: what a new kernel adds fails a test until somebody has
//! thought about it.
//!
//! "Session" means one under `bpf-lsm`, which always has a container: no capability, no privileges to gain, namespaces of its own.

use std::collections::BTreeSet;
use std::fs;

use self::Standing::{AskedAt, Covered, CoveredSince, Irrelevant, Open, Refused};

/// What answers where the kernel asks this hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A program of `leash-ebpf`.
    Covered,
    /// The same. Kernels before this version, major and minor number, have no such hook.
    CoveredSince(u32, u32),
    /// No program: whatever comes here came by these hooks, which are covered, or goes on to them.
    AskedAt(&'static [&'static str]),
    /// No program: seccomp refuses these calls, and nothing else that a session may do leads here.
    Refused(&'static [&'static str]),
    /// No program: nothing gets past a policy here, for this reason.
    Irrelevant(&'static str),
    /// No program, though something isn't asked about that a policy might want to decide. What it is, and what there is instead.
    Open(&'static str),
}

const MOUNTING: &[&str] = &[
    "mount",
    "umount2",
    "open_tree",
    "open_tree_attr",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
];
const KEYS: &[&str] = &["add_key", "request_key", "keyctl"];
const LOADING: &[&str] = &["init_module", "finit_module", "kexec_load", "kexec_file_load"];
const URING: &[&str] = &["io_uring_setup", "io_uring_enter", "io_uring_register"];

const ALLOCATES: &str = "makes, copies or frees what an LSM keeps with an object; what is done with it is asked elsewhere";
const LABELS: &str = "labels of other LSMs, by which Leash decides nothing";
const NETWORK_LABELS: &str = "labels of other LSMs on packets and sockets, by which Leash decides nothing";
const AUDIT: &str = "rules of the kernel's audit, which need a capability";
const BINDER: &str = "a session's `/dev` has no binder, and what else opens its device is asked about a file";
const TUN: &str = "a session's `/dev` has no tun device, and what else opens it is asked about a file";
const IPC: &str = "System V objects in the session's own ipc namespace, which have no path";
const INFINIBAND: &str = "InfiniBand: a device file that a session's `/dev` has not";
const IPSEC: &str = "IPsec's tables, which need a capability";
const OWN_RESOURCES: &str = "limits, order and memory of the session's own processes, about which policies say nothing";
const TELLS: &str = "tells what a process has, and changes nothing";
const METADATA: &str = "what `stat(2)` tells, and searching a directory, are no actions (SECURITY.md)";

/// Each hook by its name, and what answers there. Those of InfiniBand and of notifications are other configurations' than the matrix has.
#[rustfmt::skip] // a table, one hook a line
pub const LEDGER: &[(&str, Standing)] = &[
    ("audit_rule_free", Irrelevant(AUDIT)),
    ("audit_rule_init", Irrelevant(AUDIT)),
    ("audit_rule_known", Irrelevant(AUDIT)),
    ("audit_rule_match", Irrelevant(AUDIT)),
    ("backing_file_alloc", Irrelevant(ALLOCATES)),
    ("backing_file_free", Irrelevant(ALLOCATES)),
    ("bdev_alloc_security", Irrelevant(ALLOCATES)),
    ("bdev_free_security", Irrelevant(ALLOCATES)),
    ("bdev_setintegrity", Irrelevant("by the device mapper alone, which needs a capability")),
    ("binder_set_context_mgr", Irrelevant(BINDER)),
    ("binder_transaction", Irrelevant(BINDER)),
    ("binder_transfer_binder", Irrelevant(BINDER)),
    ("binder_transfer_file", Irrelevant(BINDER)),
    ("bpf", Refused(&["bpf"])),
    ("bpf_map", Refused(&["bpf"])),
    ("bpf_map_alloc_security", Refused(&["bpf"])),
    ("bpf_map_create", Refused(&["bpf"])),
    ("bpf_map_free", Irrelevant(ALLOCATES)),
    ("bpf_map_free_security", Irrelevant(ALLOCATES)),
    ("bpf_prog", Refused(&["bpf"])),
    ("bpf_prog_alloc_security", Refused(&["bpf"])),
    ("bpf_prog_free", Irrelevant(ALLOCATES)),
    ("bpf_prog_free_security", Irrelevant(ALLOCATES)),
    ("bpf_prog_load", Refused(&["bpf"])),
    ("bpf_token_capable", Refused(&["bpf"])),
    ("bpf_token_cmd", Refused(&["bpf"])),
    ("bpf_token_create", Refused(&["bpf"])),
    ("bpf_token_free", Irrelevant(ALLOCATES)),
    ("bprm_check_security", Covered),
    ("bprm_committed_creds", Covered),
    ("bprm_committing_creds", AskedAt(&["bprm_check_security"])),
    ("bprm_creds_for_exec", Irrelevant("comes before `bprm_check_security`, or ends at once where a program is only checked (`AT_EXECVE_CHECK`) and none runs")),
    ("bprm_creds_from_file", AskedAt(&["bprm_check_security"])),
    ("capable", Irrelevant("no capability is left, and none can be had: `no_new_privs`, and no user namespace")),
    ("capget", Irrelevant(TELLS)),
    ("capset", Irrelevant("capabilities can be given up only")),
    ("cred_alloc_blank", Irrelevant(ALLOCATES)),
    ("cred_free", Irrelevant(ALLOCATES)),
    ("cred_getlsmprop", Irrelevant(LABELS)),
    ("cred_getsecid", Irrelevant(LABELS)),
    ("cred_prepare", Irrelevant(ALLOCATES)),
    ("cred_transfer", Irrelevant(ALLOCATES)),
    ("current_getlsmprop_subj", Irrelevant(LABELS)),
    ("current_getsecid_subj", Irrelevant(LABELS)),
    ("d_instantiate", Irrelevant(LABELS)),
    ("dentry_create_files_as", Irrelevant(LABELS)),
    ("dentry_init_security", Irrelevant(LABELS)),
    ("file_alloc_security", Irrelevant(ALLOCATES)),
    ("file_fcntl", Irrelevant("acts on a descriptor that was asked for; a watch (`F_NOTIFY`) goes on to `path_notify`")),
    ("file_free_security", Irrelevant(ALLOCATES)),
    ("file_ioctl", Covered),
    ("file_ioctl_compat", Irrelevant("only calls of 32-bit programs come here, and seccomp kills who makes one")),
    ("file_lock", Irrelevant("an advisory lock or a lease, on a descriptor that was asked for")),
    ("file_mprotect", Covered),
    ("file_open", Covered),
    ("file_permission", Irrelevant("reading and writing by a descriptor, which was asked for when it was opened or came (SECURITY.md)")),
    ("file_post_open", AskedAt(&["file_open"])),
    ("file_receive", Covered),
    ("file_release", Irrelevant("a descriptor is closed, which no policy forbids")),
    ("file_send_sigiotask", Irrelevant("a signal to whom `F_SETOWN` names: in the session's own pid namespace")),
    ("file_set_fowner", Irrelevant("a signal to whom `F_SETOWN` names: in the session's own pid namespace")),
    ("file_truncate", CoveredSince(6, 2)),
    ("fs_context_dup", Refused(MOUNTING)),
    ("fs_context_parse_param", Refused(MOUNTING)),
    ("fs_context_submount", Irrelevant("the kernel mounts by itself where a mount of the host says so; what lies there is asked for by its path")),
    ("getprocattr", Irrelevant(LABELS)),
    ("getselfattr", Irrelevant(LABELS)),
    ("ib_alloc_security", Irrelevant(ALLOCATES)),
    ("ib_endport_manage_subnet", Irrelevant(INFINIBAND)),
    ("ib_free_security", Irrelevant(ALLOCATES)),
    ("ib_pkey_access", Irrelevant(INFINIBAND)),
    ("inet_conn_established", AskedAt(&["socket_connect", "socket_sendmsg"])),
    ("inet_conn_request", AskedAt(&["socket_listen"])),
    ("inet_csk_clone", Irrelevant(ALLOCATES)),
    ("initramfs_populated", Irrelevant("the kernel's start")),
    ("inode_alloc_security", Irrelevant(ALLOCATES)),
    ("inode_copy_up", Irrelevant("the kernel copies a stacked file system's file up before a change, which was asked for above")),
    ("inode_copy_up_xattr", Irrelevant("the kernel copies a stacked file system's file up before a change, which was asked for above")),
    ("inode_create", Irrelevant("a file: `path_mknod`, or `file_open` without a name; a message queue: in the session's own ipc namespace")),
    ("inode_file_getattr", Irrelevant(METADATA)),
    ("inode_file_setattr", AskedAt(&["file_ioctl"])),
    ("inode_follow_link", Irrelevant("where the link leads to is asked for")),
    ("inode_free_security", Irrelevant(ALLOCATES)),
    ("inode_free_security_rcu", Irrelevant(ALLOCATES)),
    ("inode_get_acl", Open("tells an access control list, of a file that may not be read, too")),
    ("inode_getattr", Irrelevant(METADATA)),
    ("inode_getlsmprop", Irrelevant(LABELS)),
    ("inode_getsecctx", Irrelevant(LABELS)),
    ("inode_getsecid", Irrelevant(LABELS)),
    ("inode_getsecurity", Open("tells a value of another LSM's, after `inode_getxattr`")),
    ("inode_getxattr", Open("tells a value, of a file that may not be read, too")),
    ("inode_init_security", Irrelevant(LABELS)),
    ("inode_init_security_anon", Irrelevant(LABELS)),
    ("inode_invalidate_secctx", Irrelevant(LABELS)),
    ("inode_killpriv", Irrelevant("set-user-ID and capabilities go when a file changes, and the change was asked for")),
    ("inode_link", AskedAt(&["path_link"])),
    ("inode_listsecurity", Irrelevant(LABELS)),
    ("inode_listxattr", Open("tells the names of attributes, of a file that may not be read, too")),
    ("inode_mkdir", AskedAt(&["path_mkdir"])),
    ("inode_mknod", AskedAt(&["path_mknod"])),
    ("inode_need_killpriv", Irrelevant("set-user-ID and capabilities go when a file changes, and the change was asked for")),
    ("inode_notifysecctx", Irrelevant(LABELS)),
    ("inode_permission", Irrelevant(METADATA)),
    ("inode_post_create_tmpfile", AskedAt(&["file_open"])),
    ("inode_post_remove_acl", AskedAt(&["inode_remove_acl"])),
    ("inode_post_removexattr", AskedAt(&["inode_removexattr"])),
    ("inode_post_set_acl", AskedAt(&["inode_set_acl"])),
    ("inode_post_setattr", AskedAt(&["inode_setattr", "path_chmod", "path_chown", "path_truncate"])),
    ("inode_post_setxattr", AskedAt(&["inode_setxattr"])),
    ("inode_readlink", Open("tells where a link leads to that may not be read")),
    ("inode_remove_acl", CoveredSince(6, 2)),
    ("inode_removexattr", Covered),
    ("inode_rename", AskedAt(&["path_rename"])),
    ("inode_rmdir", AskedAt(&["path_rmdir"])),
    ("inode_set_acl", CoveredSince(6, 2)),
    ("inode_setattr", Covered),
    ("inode_setintegrity", AskedAt(&["file_ioctl"])),
    ("inode_setsecctx", Irrelevant(LABELS)),
    ("inode_setsecurity", AskedAt(&["inode_setxattr"])),
    ("inode_setxattr", Covered),
    ("inode_symlink", AskedAt(&["path_symlink"])),
    ("inode_unlink", Irrelevant("a name: `path_unlink`; a message queue: in the session's own ipc namespace")),
    ("inode_xattr_skipcap", AskedAt(&["inode_setxattr", "inode_removexattr"])),
    ("ipc_getlsmprop", Irrelevant(LABELS)),
    ("ipc_getsecid", Irrelevant(LABELS)),
    ("ipc_permission", Irrelevant(IPC)),
    ("ismaclabel", Irrelevant(LABELS)),
    ("kernel_act_as", Irrelevant("services of the kernel take over others' credentials (cachefiles): no process does")),
    ("kernel_create_files_as", Irrelevant("services of the kernel take over others' credentials (cachefiles): no process does")),
    ("kernel_load_data", Refused(LOADING)),
    ("kernel_module_request", Irrelevant("the kernel loads a module of the host's for what was asked for (a socket's family), or what no policy names (a terminal's line discipline)")),
    ("kernel_post_load_data", Refused(LOADING)),
    ("kernel_post_read_file", Refused(LOADING)),
    ("kernel_read_file", Refused(LOADING)),
    ("kernfs_init_security", Irrelevant(LABELS)),
    ("key_alloc", Irrelevant(ALLOCATES)),
    ("key_free", Irrelevant(ALLOCATES)),
    ("key_getsecurity", Refused(KEYS)),
    ("key_permission", Refused(KEYS)),
    ("key_post_create_or_update", Refused(KEYS)),
    ("locked_down", Irrelevant("lockdown: what it guards needs a capability, or a file that is asked for")),
    ("lsmprop_to_secctx", Irrelevant(LABELS)),
    ("mmap_addr", Irrelevant("the lowest addresses: memory of the process's own")),
    ("mmap_backing_file", Irrelevant("the file below a stacked one, which `mmap_file` asked about")),
    ("mmap_file", Covered),
    ("move_mount", Refused(MOUNTING)),
    ("mptcp_add_subflow", Open("`socket_connect` asks about the first address only; others come by the host's own setting (`ip mptcp`)")),
    ("msg_msg_alloc_security", Irrelevant(ALLOCATES)),
    ("msg_msg_free_security", Irrelevant(ALLOCATES)),
    ("msg_queue_alloc_security", Irrelevant(IPC)),
    ("msg_queue_associate", Irrelevant(IPC)),
    ("msg_queue_free_security", Irrelevant(ALLOCATES)),
    ("msg_queue_msgctl", Irrelevant(IPC)),
    ("msg_queue_msgrcv", Irrelevant(IPC)),
    ("msg_queue_msgsnd", Irrelevant(IPC)),
    ("netlink_send", Irrelevant("a message of a netlink socket, which `socket_create` asked about")),
    ("path_chmod", Covered),
    ("path_chown", Covered),
    ("path_chroot", Refused(&["chroot"])),
    ("path_link", Covered),
    ("path_mkdir", Covered),
    ("path_mknod", Covered),
    ("path_notify", Covered),
    ("path_post_mknod", AskedAt(&["path_mknod"])),
    ("path_rename", Covered),
    ("path_rmdir", Covered),
    ("path_symlink", Covered),
    ("path_truncate", Covered),
    ("path_unlink", Covered),
    ("perf_event_alloc", Irrelevant(ALLOCATES)),
    ("perf_event_free", Irrelevant(ALLOCATES)),
    ("perf_event_open", Refused(&["perf_event_open"])),
    ("perf_event_read", Refused(&["perf_event_open"])),
    ("perf_event_write", Refused(&["perf_event_open"])),
    ("post_notification", Refused(KEYS)),
    ("ptrace_access_check", Open("the kernel's own rules: a tracer acts as the program that it traces (SECURITY.md)")),
    ("ptrace_traceme", Open("the kernel's own rules: a tracer acts as the program that it traces (SECURITY.md)")),
    ("quota_on", Refused(&["quotactl", "quotactl_fd"])),
    ("quotactl", Refused(&["quotactl", "quotactl_fd"])),
    ("release_secctx", Irrelevant(LABELS)),
    ("req_classify_flow", Irrelevant(NETWORK_LABELS)),
    ("sb_alloc_security", Irrelevant(ALLOCATES)),
    ("sb_clone_mnt_opts", Refused(MOUNTING)),
    ("sb_delete", Irrelevant("the kernel does it when the last mount goes, or for itself")),
    ("sb_eat_lsm_opts", Refused(MOUNTING)),
    ("sb_free_mnt_opts", Irrelevant(ALLOCATES)),
    ("sb_free_security", Irrelevant(ALLOCATES)),
    ("sb_kern_mount", Irrelevant("the kernel does it when the last mount goes, or for itself")),
    ("sb_mnt_opts_compat", Refused(MOUNTING)),
    ("sb_mount", Refused(MOUNTING)),
    ("sb_pivotroot", Refused(&["pivot_root"])),
    ("sb_remount", Refused(MOUNTING)),
    ("sb_set_mnt_opts", Refused(MOUNTING)),
    ("sb_show_options", Irrelevant(TELLS)),
    ("sb_statfs", Irrelevant(METADATA)),
    ("sb_umount", Refused(MOUNTING)),
    ("sctp_assoc_established", AskedAt(&["socket_connect", "socket_sendmsg"])),
    ("sctp_assoc_request", AskedAt(&["socket_listen"])),
    ("sctp_bind_connect", Open("`socket_create` asks about the socket; further addresses (`sctp_connectx(3)`, `sctp_bindx(3)`) aren't asked about")),
    ("sctp_sk_clone", Irrelevant(ALLOCATES)),
    ("secctx_to_secid", Irrelevant(LABELS)),
    ("secid_to_secctx", Irrelevant(LABELS)),
    ("secmark_refcount_dec", Irrelevant(NETWORK_LABELS)),
    ("secmark_refcount_inc", Irrelevant(NETWORK_LABELS)),
    ("secmark_relabel_packet", Irrelevant(NETWORK_LABELS)),
    ("sem_alloc_security", Irrelevant(IPC)),
    ("sem_associate", Irrelevant(IPC)),
    ("sem_free_security", Irrelevant(ALLOCATES)),
    ("sem_semctl", Irrelevant(IPC)),
    ("sem_semop", Irrelevant(IPC)),
    ("setprocattr", Irrelevant("writes a label of another LSM's, below `/proc`, which is a file that is asked for")),
    ("setselfattr", Refused(&["lsm_set_self_attr"])),
    ("settime", Refused(&["settimeofday", "clock_settime", "clock_adjtime", "adjtimex"])),
    ("shm_alloc_security", Irrelevant(IPC)),
    ("shm_associate", Irrelevant(IPC)),
    ("shm_free_security", Irrelevant(ALLOCATES)),
    ("shm_shmat", Irrelevant(IPC)),
    ("shm_shmctl", Irrelevant(IPC)),
    ("sk_alloc_security", Irrelevant(ALLOCATES)),
    ("sk_clone_security", Irrelevant(ALLOCATES)),
    ("sk_free_security", Irrelevant(ALLOCATES)),
    ("sk_getsecid", Irrelevant(NETWORK_LABELS)),
    ("sock_graft", Irrelevant(NETWORK_LABELS)),
    ("socket_accept", AskedAt(&["socket_listen"])),
    ("socket_bind", Covered),
    ("socket_connect", Covered),
    ("socket_create", Covered),
    ("socket_getpeername", Irrelevant(TELLS)),
    ("socket_getpeersec_dgram", Irrelevant(NETWORK_LABELS)),
    ("socket_getpeersec_stream", Irrelevant(NETWORK_LABELS)),
    ("socket_getsockname", Irrelevant(TELLS)),
    ("socket_getsockopt", Irrelevant(TELLS)),
    ("socket_listen", Covered),
    ("socket_post_create", AskedAt(&["socket_create"])),
    ("socket_recvmsg", Irrelevant("what arrives at a socket, which was asked about when it was bound, connected or sent by; a descriptor in it goes on to `file_receive`")),
    ("socket_sendmsg", Covered),
    ("socket_setsockopt", Covered),
    ("socket_shutdown", Irrelevant("ends what a socket may do")),
    ("socket_sock_rcv_skb", Irrelevant("a packet on its way in: see `socket_recvmsg`")),
    ("socket_socketpair", AskedAt(&["socket_create"])),
    ("syslog", Refused(&["syslog"])),
    ("task_alloc", Covered),
    ("task_fix_setgid", Irrelevant("without a capability a process becomes only who it is already")),
    ("task_fix_setgroups", Irrelevant("without a capability a process becomes only who it is already")),
    ("task_fix_setuid", Irrelevant("without a capability a process becomes only who it is already")),
    ("task_free", Irrelevant(ALLOCATES)),
    ("task_getioprio", Irrelevant(TELLS)),
    ("task_getlsmprop_obj", Irrelevant(LABELS)),
    ("task_getpgid", Irrelevant(TELLS)),
    ("task_getscheduler", Irrelevant(TELLS)),
    ("task_getsecid_obj", Irrelevant(LABELS)),
    ("task_getsid", Irrelevant(TELLS)),
    ("task_kill", Irrelevant("signals reach the session's own pid namespace only")),
    ("task_movememory", Refused(&["migrate_pages", "move_pages"])),
    ("task_prctl", Irrelevant("what would change which program a process is (`PR_SET_MM`), seccomp refuses; the rest is its own")),
    ("task_prlimit", Irrelevant(OWN_RESOURCES)),
    ("task_setioprio", Irrelevant(OWN_RESOURCES)),
    ("task_setnice", Irrelevant(OWN_RESOURCES)),
    ("task_setpgid", Irrelevant("job control, in the session's own pid namespace")),
    ("task_setrlimit", Irrelevant(OWN_RESOURCES)),
    ("task_setscheduler", Irrelevant(OWN_RESOURCES)),
    ("task_to_inode", Irrelevant(LABELS)),
    ("tun_dev_alloc_security", Irrelevant(ALLOCATES)),
    ("tun_dev_attach", Irrelevant(TUN)),
    ("tun_dev_attach_queue", Irrelevant(TUN)),
    ("tun_dev_create", Irrelevant(TUN)),
    ("tun_dev_free_security", Irrelevant(ALLOCATES)),
    ("tun_dev_open", Irrelevant(TUN)),
    ("unix_find", Irrelevant("goes on to `unix_stream_connect` or `unix_may_send`")),
    ("unix_may_send", Covered),
    ("unix_stream_connect", Covered),
    ("uring_allowed", Refused(URING)),
    ("uring_cmd", Refused(URING)),
    ("uring_override_creds", Refused(URING)),
    ("uring_sqpoll", Refused(URING)),
    ("userns_create", Refused(&["unshare", "clone3"])),
    ("vm_enough_memory", Irrelevant(OWN_RESOURCES)),
    ("watch_key", Refused(KEYS)),
    ("xfrm_decode_session", Irrelevant(NETWORK_LABELS)),
    ("xfrm_policy_alloc_security", Irrelevant(ALLOCATES)),
    ("xfrm_policy_clone_security", Irrelevant(ALLOCATES)),
    ("xfrm_policy_delete_security", Irrelevant(IPSEC)),
    ("xfrm_policy_free_security", Irrelevant(ALLOCATES)),
    ("xfrm_policy_lookup", Irrelevant(NETWORK_LABELS)),
    ("xfrm_state_alloc", Irrelevant(ALLOCATES)),
    ("xfrm_state_alloc_acquire", Irrelevant(ALLOCATES)),
    ("xfrm_state_delete_security", Irrelevant(IPSEC)),
    ("xfrm_state_free_security", Irrelevant(ALLOCATES)),
    ("xfrm_state_pol_flow_match", Irrelevant(NETWORK_LABELS)),
];

/// Functions of the kernel that are named like hooks and are none (`kernel/bpf/bpf_lsm.c`, `security/bpf/hooks.c`).
const NO_HOOKS: [&str; 9] = [
    "find_cgroup_shim",
    "func_proto",
    "get_retval_range",
    "has_d_inode_locked",
    "hook_returns_errno",
    "init",
    "is_sleepable_hook",
    "is_trusted",
    "verify_prog",
];

/// The hooks that the running kernel has for BPF programs.
pub fn of_running_kernel() -> BTreeSet<String> {
    let symbols = fs::read_to_string("/proc/kallsyms").expect("read /proc/kallsyms");
    let hooks = hooks_in(&symbols);
    // A kernel that can't be judged has not passed.
    assert!(!hooks.is_empty(), "this kernel shows no function `bpf_lsm_…`: it is built without BPF LSM, or hides /proc/kallsyms");
    hooks
}

/// A line is an address, a type, a name, and for modules the module's; functions have type `T` or `W`, `t` or `w`.
fn hooks_in(symbols: &str) -> BTreeSet<String> {
    let hook = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (kind, name) = (fields.next()?, fields.next()?);
        let name = name.strip_prefix("bpf_lsm_").filter(|name| !NO_HOOKS.contains(name))?;
        matches!(kind, "T" | "t" | "W" | "w").then(|| name.to_owned())
    };
    symbols.lines().filter_map(hook).collect()
}

/// What a kernel of this version, with these hooks, lacks or has too much of: a line a hook.
pub fn judge(hooks: &BTreeSet<String>, version: (u32, u32)) -> Vec<String> {
    let listed = |hook: &str| LEDGER.binary_search_by(|(name, _)| (*name).cmp(hook)).is_ok();
    let unknown = hooks.iter().filter(|hook| !listed(hook)).map(|hook| format!("{hook}: unknown; what does it decide?"));
    let lacks = |(hook, standing): &&(&str, Standing)| {
        let since = match *standing {
            Covered => Some((0, 0)),
            CoveredSince(major, minor) => Some((major, minor)),
            AskedAt(_) | Refused(_) | Irrelevant(_) | Open(_) => None,
        };
        since.is_some_and(|since| since <= version) && !hooks.contains(*hook)
    };
    let missing = LEDGER.iter().filter(lacks).map(|(hook, _)| format!("{hook}: covered, and the kernel has no such hook"));
    unknown.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::hooks::tests::programs;
    use std::path::Path;

    fn covered() -> BTreeSet<&'static str> {
        let is_covered = |standing: &Standing| matches!(standing, Covered | CoveredSince(..));
        LEDGER.iter().filter(|(_, standing)| is_covered(standing)).map(|(hook, _)| *hook).collect()
    }

    #[test]
    fn hooks_are_in_order_and_each_is_there_once() {
        let pairs = LEDGER.windows(2);
        assert_eq!(pairs.filter(|pair| pair[0].0 >= pair[1].0).map(|pair| pair[1].0).collect::<Vec<_>>(), [""; 0]);
        assert_eq!(LEDGER.iter().find(|(hook, _)| NO_HOOKS.contains(hook)), None);
    }

    #[test]
    fn covered_are_exactly_the_hooks_that_have_a_program() {
        assert_eq!(covered(), programs().iter().map(String::as_str).collect());
    }

    /// The words of a list in a source of the product.
    fn words_of(source: &str, list: &str) -> BTreeSet<String> {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(source)).unwrap();
        let (_, after) = text.split_once(&format!("const {list}: &[&str] = &[")).unwrap();
        let (words, _) = after.split_once("];").unwrap();
        words.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn hooks_that_older_kernels_have_not_are_those_that_are_not_needed_everywhere() {
        let newer = LEDGER.iter().filter(|(_, standing)| matches!(standing, CoveredSince(..)));
        let optional = words_of("leash-agent/src/enforce/install.rs", "OPTIONAL");
        assert_eq!(newer.map(|(hook, _)| (*hook).to_owned()).collect::<BTreeSet<_>>(), optional);
    }

    #[test]
    fn reasons_hold() {
        let allowed = words_of("leash-agent/src/sandbox/syscalls.rs", "ALLOWED");
        assert!(allowed.contains("read"));
        for (hook, standing) in LEDGER {
            match standing {
                Covered | CoveredSince(..) => {}
                AskedAt(hooks) => assert!(!hooks.is_empty() && hooks.iter().all(|hook| covered().contains(hook)), "{hook}"),
                Refused(calls) => assert!(!calls.is_empty() && calls.iter().all(|call| !allowed.contains(*call)), "{hook}"),
                Irrelevant(reason) | Open(reason) => assert!(reason.contains(' '), "{hook}: {reason}"),
            }
        }
    }

    #[test]
    fn symbols_that_are_hooks_are_found() {
        let symbols = "\
0000000000000000 T bpf_lsm_file_open
0000000000000000 W bpf_lsm_sb_mount
0000000000000000 t bpf_lsm_func_proto
0000000000000000 T __pfx_bpf_lsm_file_open
0000000000000000 D bpf_lsm_blob_sizes
0000000000000000 t bpf_lsm_file_lock\t[some_module]
";
        assert_eq!(hooks_in(symbols), ["file_lock", "file_open", "sb_mount"].map(str::to_owned).into());
    }

    #[test]
    fn what_differs_from_the_ledger_is_told() {
        let with = |more: &[&str], less: &str| -> BTreeSet<String> {
            covered().into_iter().chain(more.iter().copied()).filter(|hook| *hook != less).map(str::to_owned).collect()
        };
        assert_eq!(judge(&with(&["sb_mount"], ""), (6, 12)), [""; 0]);
        assert_eq!(judge(&with(&["file_teleport"], ""), (6, 12)), ["file_teleport: unknown; what does it decide?"]);
        let missing = |hook| format!("{hook}: covered, and the kernel has no such hook");
        assert_eq!(judge(&with(&[], "file_open"), (6, 1)), [missing("file_open")]);
        assert_eq!(judge(&with(&[], "file_truncate"), (6, 1)), [""; 0]);
        assert_eq!(judge(&with(&[], "file_truncate"), (6, 2)), [missing("file_truncate")]);
    }
}
