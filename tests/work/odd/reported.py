# What people reported as broken in sandboxes that answer calls for a program. It prints the same with and without Leash.
import array, ctypes, mmap, os, resource, signal, socket, struct, sys, threading
os.chdir("/w/odd"); sys.stdout.reconfigure(line_buffering=True)
libc = ctypes.CDLL(None, use_errno=True)
def attempt(action, *arguments):
    try: return action(*arguments)
    except OSError as error: return os.strerror(error.errno)
# openat2 as rustix calls it: O_LARGEFILE, RESOLVE_BENEATH and RESOLVE_NO_MAGICLINKS; below its own root, a path starts with a slash or without
open("file", "w").write("text"); here = os.open(".", os.O_RDONLY)
def openat2(path, flags, resolve): return libc.syscall(437, here, path, struct.pack("QQQ", flags, 0, resolve), 24)
for path, flags, resolve in [(b"file", 0x8000, 0xa), (b"/file", 0, 0x10), (b"/../file", 0, 0x10), (b"../odd/file", 0, 0x8)]:
    found = openat2(path, flags | os.O_CLOEXEC, resolve); print(found >= 0 and os.read(found, 9))
# names below what isn't there, and names that are none
for action, arguments in [(os.mkdir, ("none/.",)), (os.symlink, ("x", "none/..")), (os.rename, ("none/.", "z")), (os.rmdir, ("none/.",)), (os.mkdir, (".",)), (os.rmdir, (".",)), (os.mkdir, ("file/.",))]:
    print(attempt(action, *arguments))
# no room for another descriptor: nothing is made, and nothing is emptied
child = os.fork()
if child == 0:
    resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
    for number in range(3, 30): os.dup2(here, number)
    for path, flags in [("made", os.O_CREAT | os.O_WRONLY), ("file", os.O_WRONLY | os.O_TRUNC), ("file", os.O_RDONLY | os.O_TRUNC), ("file", os.O_RDWR | os.O_CREAT | os.O_TRUNC)]:
        print(attempt(os.open, path, flags), os.path.exists("made"), os.path.getsize("file"), flush=True)
    os._exit(0)
os.waitpid(child, 0)
for flags in (os.O_WRONLY, os.O_RDONLY, os.O_RDWR | os.O_APPEND):
    open("file", "w").write("text"); print(os.lseek(os.open("file", flags | os.O_TRUNC), 0, os.SEEK_END), os.path.getsize("file"))
# memory that is handed over, by a program with one thread and by one with several, and what its maker does with it
def hand_over(message):
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    memory = os.memfd_create("shared"); os.ftruncate(memory, 4096); os.fchmod(memory, 0o600); mmap.mmap(memory, 4096)[:7] = message
    def send(): socket.send_fds(one, [b"x"], [memory, here])
    child = os.fork()
    if child == 0: send(); os._exit(0)
    os.waitpid(child, 0)
    data, descriptors, flags, _ = socket.recv_fds(other, 10, 2)
    print(data, len(descriptors), flags, mmap.mmap(descriptors[0], 4096)[:7], os.fstat(descriptors[1]).st_ino == os.fstat(here).st_ino)
hand_over(b"handed1")
# who sent
def sender(kind):
    one, other = socket.socketpair(socket.AF_UNIX, kind); other.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    child = os.fork()
    if child == 0: one.sendmsg([b"x"]); one.sendmsg([b"y"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("iii", os.getpid(), os.getuid(), os.getgid()))]); os._exit(0)
    got = [other.recvmsg(1, 99) for _ in range(2)]; os.waitpid(child, 0)
    print([(data, struct.unpack("iii", control[0][2])[0] == child) for data, control, *_ in got])
for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET): sender(kind)
hand_over(b"handed2")
stop = threading.Event(); threads = [threading.Thread(target=stop.wait) for _ in range(4)]
for thread in threads: thread.start()
one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET); other.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
for index in range(50): one.sendmsg([b"%d" % index]); data, control, *_ = other.recvmsg(9, 99); assert struct.unpack("iii", control[0][2])[0] == os.getpid(), index
stop.set(); [thread.join() for thread in threads]
# calls that can't fail, while a timer interrupts two thousand times a second a program whose handler says that nothing is to be restarted
signal.signal(signal.SIGALRM, lambda *_: None); signal.siginterrupt(signal.SIGALRM, True); signal.setitimer(signal.ITIMER_REAL, .0005, .0005)
print({os.umask(0o22) for _ in range(20000)} <= {0o22, 0o2, 0o77})
signal.setitimer(signal.ITIMER_REAL, 0)
