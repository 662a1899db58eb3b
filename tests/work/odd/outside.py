# Every call that takes a path or a descriptor, with texts that would mean something else to whoever answers it. Prints what was reached.
# `contained` as the first argument: every process that can be seen is the session's.
import ctypes, errno, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
CWD, IN_ROOT, BENEATH = -100, 0x10, 0x08
def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *[ctypes.c_long(part) if isinstance(part, int) else part for part in arguments])
    return result if result >= 0 else -ctypes.get_errno()
mounts = {line.split()[0] for line in open("/proc/self/mountinfo")}
own, contained = str(os.getpid()), sys.argv[1:] == ["contained"]
def lies_inside(fd):
    link = os.readlink(f"/proc/self/fd/{fd}")
    process = link.split("/")[2] if link.startswith("/proc/") else ""
    mount = next(line.split()[1] for line in open(f"/proc/self/fdinfo/{fd}") if line.startswith("mnt_id:"))
    return mount in mounts and (contained or not process.isdigit() or process == own)
reached, calls = [], 0
def must(name, result, expected):
    global calls
    calls += 1
    if result not in [-error for error in expected]: reached.append((name, result))

# A directory with nothing in it: whatever is found by a relative text is somebody else's.
os.mkdir("empty"); os.chdir("empty"); here = os.open(".", os.O_RDONLY); inode = os.fstat(here).st_ino
fine = open("../fine", "w").fileno(); watcher = libc.inotify_init()
texts = [str(number) for number in range(48)] + ["self", "root", "0/.", "4/x", "fd/3"]
times, value = bytes(32), b"v"
unix = lambda text: struct.pack("H", 1) + text + b"\0"
def by_socket(number, kind, text):
    with socket.socket(socket.AF_UNIX, kind) as one:
        if number == 46:
            name = ctypes.create_string_buffer(unix(text))
            head = struct.pack("QIxxxxQQQQQ", ctypes.addressof(name), len(text) + 3, 0, 0, 0, 0, 0)
            return call(46, one.fileno(), head, 0)
        return call(number, one.fileno(), unix(text), len(text) + 3) if number == 42 else call(44, one.fileno(), b"x", 1, 0, unix(text), len(text) + 3)
by_path = {
    "open": lambda p: call(2, p, 0), "open for writing": lambda p: call(2, p, os.O_RDWR), "openat": lambda p: call(257, CWD, p, 0),
    "openat of a directory": lambda p: call(257, here, p, os.O_RDWR | os.O_TRUNC), "unnamed": lambda p: call(257, here, p, os.O_TMPFILE | os.O_RDWR, 0o600),
    "truncate": lambda p: call(76, p, 0), "unlink": lambda p: call(87, p), "rmdir": lambda p: call(84, p), "unlinkat": lambda p: call(263, here, p, 0),
    "rename": lambda p: call(82, p, b"x"), "renameat2": lambda p: call(316, here, p, CWD, b"x", 0), "exchange": lambda p: call(316, CWD, b"../fine", here, p, 2),
    "link": lambda p: call(86, p, b"x"), "linkat": lambda p: call(265, here, p, CWD, b"x", 0x400), "chmod": lambda p: call(90, p, 0o777),
    "fchmodat": lambda p: call(268, here, p, 0o777), "chown": lambda p: call(92, p, -1, -1), "lchown": lambda p: call(94, p, -1, -1),
    "fchownat": lambda p: call(260, here, p, -1, -1, 0), "utime": lambda p: call(132, p, 0), "utimes": lambda p: call(235, p, 0),
    "futimesat": lambda p: call(261, here, p, 0), "utimensat": lambda p: call(280, here, p, times, 0), "setxattr": lambda p: call(188, p, b"user.x", value, 1, 0),
    "lsetxattr": lambda p: call(189, p, b"user.x", value, 1, 0), "removexattr": lambda p: call(197, p, b"user.x"), "lremovexattr": lambda p: call(198, p, b"user.x"),
    "watch": lambda p: call(254, watcher, p, 0xfff), "execve": lambda p: call(59, p, 0, 0), "execveat": lambda p: call(322, here, p, 0, 0, 0),
    "connect": lambda p: by_socket(42, socket.SOCK_STREAM, p), "connect for datagrams": lambda p: by_socket(42, socket.SOCK_DGRAM, p),
    "sendto": lambda p: by_socket(44, socket.SOCK_DGRAM, p), "sendmsg": lambda p: by_socket(46, socket.SOCK_DGRAM, p),
}
for name, attempt in by_path.items():
    for text in texts: must(f"{name} {text}", attempt(text.encode()), [errno.ENOENT])
# What makes names makes them here.
made = {"mkdir": lambda p: call(83, p, 0o755), "mkdirat": lambda p: call(258, here, p, 0o755), "mknod": lambda p: call(133, p, 0o100644, 0),
    "mknodat": lambda p: call(259, here, p, 0o100644, 0), "symlink": lambda p: call(88, b"x", p), "symlinkat": lambda p: call(266, b"x", here, p),
    "creat": lambda p: call(85, p, 0o644), "make": lambda p: call(257, CWD, p, os.O_CREAT | os.O_WRONLY, 0o644), "link": lambda p: call(86, b"../fine", p),
    "linkat": lambda p: call(265, CWD, b"../fine", here, p, 0),
    "bind": lambda p: call(49, socket.socket(socket.AF_UNIX).detach(), unix(p), len(p) + 3)}
for name, attempt in made.items():
    result = attempt(b"7"); calls += 1
    if result < 0 or os.listdir(here) != ["7"]: reached.append((name, result, os.listdir(here)))
    os.rmdir("7") if os.path.isdir("7") and not os.path.islink("7") else os.unlink("7")
# openat2 with every limit, from here, from the current directory, and from no descriptor.
for resolve in range(64):
    for start in (CWD, here, 999):
        for text in ["/", "/.", "/..", "/../..", ".", "..", "/7", "/../root", "../root", "/proc/self/fd", "/proc/thread-self/root", "/dev/fd/3"] + texts[:8]:
            for flags in (os.O_RDONLY | os.O_DIRECTORY, os.O_RDWR, os.O_PATH, os.O_RDWR | os.O_CREAT, os.O_TMPFILE | os.O_RDWR):
                mode = 0o600 if flags & (os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY) else 0
                result = call(437, start, text.encode(), struct.pack("QQQ", flags, mode, resolve), 24); calls += 1
                if result < 0: continue
                rooted = resolve & IN_ROOT and flags & os.O_TMPFILE != os.O_TMPFILE and text in ("/", "/.", "/..", "/../..", ".", "..")
                if not lies_inside(result) or rooted and os.fstat(result).st_ino != inode: reached.append((start, text, flags, resolve, os.readlink(f"/proc/self/fd/{result}")))
                os.close(result)
found = call(437, here, b"/", struct.pack("QQQ", os.O_DIRECTORY, 0, IN_ROOT), 24)
if found < 0 or os.fstat(found).st_ino != inode: reached.append(("the root of a limited call", found))
must("a path of the root in a limited call", call(437, here, b"/fine", struct.pack("QQQ", 0, 0, IN_ROOT), 24), [errno.ENOENT])
must("a rooted path beneath", call(437, here, b"/", struct.pack("QQQ", 0, 0, BENEATH), 24), [errno.EXDEV])
# Descriptors that only others have, and whatever of /proc is another process's: to those who answer, "self" is somebody else.
free = [number for number in range(20, 84) if not os.path.lexists(f"/proc/self/fd/{number}")]
for number in free:
    for form in ("/proc/self/fd/%d", "/proc/thread-self/fd/%d", "/dev/fd/%d", "/proc/self/task/../fd/%d", "/proc/self/fdinfo/%d", "/proc/self/map_files/../fd/%d"):
        for name in ("open", "truncate", "chmod", "link", "watch", "execve", "connect", "setxattr"):
            must(f"{name} {form % number}", by_path[name]((form % number).encode()), [errno.ENOENT])
for process in [name for name in os.listdir("/proc") if name.isdigit() and name != own]:
    for name in ["fd/0", "fd/3", "fd/7", "root/etc/hostname", "cwd/x", "exe", "mem", "environ", "maps", "map_files", "ns/mnt", "task/%s/mem" % process]:
        path = f"/proc/{process}/{name}".encode()
        for flags in (os.O_RDONLY, os.O_RDWR, os.O_RDONLY | os.O_DIRECTORY):
            result = call(2, path, flags); calls += 1
            if result >= 0 and not lies_inside(result): reached.append((path, flags, os.readlink(f"/proc/self/fd/{result}")))
            if result >= 0: os.close(result)
# What was handed in is what it was: it opens as what the session has by that name, or not at all.
for path in ("/proc/self/fd/0", "/dev/stdin", "/dev/fd/0"):
    result = call(2, path.encode(), os.O_RDWR)
    print(path, errno.errorcode.get(-result, result))
print(calls > 20000, "reached:", reached[:20])
