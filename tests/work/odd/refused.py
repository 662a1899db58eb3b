import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for name, call in [("ptrace", 101), ("process_vm_readv", 310), ("process_vm_writev", 311), ("pidfd_getfd", 438), ("io_uring_setup", 425),
                   ("landlock_create_ruleset", 444), ("userfaultfd", 323), ("unshare", 272), ("unknown", 4000), ("recvmmsg", 299), ("setxattrat", 463)]:
    ctypes.set_errno(0)
    print(name, libc.syscall(call, 0, 0, 0, 0, 0, 0), ctypes.get_errno())
# A listener of its own, `SECCOMP_FILTER_FLAG_NEW_LISTENER`: it would answer its calls itself.
ctypes.set_errno(0)
print("listener", libc.syscall(317, 1, 8, 0), ctypes.get_errno())
