"""What docs/backends.md says of the backends, one `key result` a line: `ok`, `differs`, or the error's name."""
import ctypes, errno, fcntl, os, pty, resource, signal, socket, struct, tempfile, threading, time

libc = ctypes.CDLL(None, use_errno=True)
place = tempfile.mkdtemp(dir=".")


def name(number):
    return errno.errorcode[number].replace("ENOTSUP", "EOPNOTSUPP")


def say(key, result):
    print(key, result, flush=True)


def call(key, number, *arguments):
    """A system call by its number (asm/unistd_64.h)."""
    ctypes.set_errno(0)
    # An `int` would leave half of its place on the stack as it is.
    result = libc.syscall(number, *(ctypes.c_long(word) if isinstance(word, int) else word for word in arguments))
    say(key, "ok" if result >= 0 else name(ctypes.get_errno()))
    return result


def attempt(key, action):
    try:
        action()
        say(key, "ok")
    except OSError as error:
        say(key, name(error.errno))


def in_child(action):
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


in_child(lambda: call("ptrace", 101, 0, 0, 0, 0))
one, other = ctypes.create_string_buffer(8), ctypes.create_string_buffer(8)
mine, theirs = (ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(buffer), 8), 16) for buffer in (one, other))
call("process_vm_readv", 310, os.getpid(), mine, 1, theirs, 1, 0)
call("process_vm_writev", 311, os.getpid(), mine, 1, theirs, 1, 0)
call("pidfd_getfd", 438, os.pidfd_open(os.getpid()), 0, 0)
attempt("mem", lambda: os.close(os.open("/proc/self/mem", os.O_RDWR)))

plain = os.path.relpath(os.path.join(place, "plain"))
open(plain, "w").close()
flags = fcntl.fcntl(os.open(plain, os.O_RDONLY | os.O_NOFOLLOW), fcntl.F_GETFL)
say("nofollow", "ok" if flags & os.O_NOFOLLOW else "missing")

call("landlock", 444, 0, 0, 1)
one, other = socket.socketpair()
other.send(b"x")
buffer = ctypes.create_string_buffer(8)
vector = struct.pack("QQ", ctypes.addressof(buffer), 8)
header = ctypes.create_string_buffer(struct.pack("QIxxxxQQQQixxxxIxxxx", 0, 0, ctypes.addressof(ctypes.create_string_buffer(vector, 16)), 1, 0, 0, 0, 0), 64)
call("recvmmsg", 299, one.fileno(), header, 1, socket.MSG_DONTWAIT, 0)

# CLONE_FILES
child = libc.syscall(56, ctypes.c_long(0x400 | signal.SIGCHLD), None, None, None, None)
if child == 0:
    os._exit(0)
say("share", "ok" if child > 0 else name(ctypes.get_errno()))

attempt("signal", lambda: os.kill(1, 0))
master, slave = pty.openpty()
say("terminals", "ok" if os.isatty(slave) else "none")
attempt("peer-end", lambda: os.close(fcntl.ioctl(master, 0x5441, os.O_RDWR | os.O_NOCTTY)))

# A filter that answers nothing, but wants to.
allow = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
code = ctypes.create_string_buffer(allow, 8)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(code)), 16)
in_child(lambda: call("listener", 317, 1, 8, program))

queue = b"leash-differences-%d" % os.getpid()
if call("mq_open", 240, queue, os.O_CREAT | os.O_RDWR, 0o600, None) >= 0:
    libc.syscall(241, queue)

how = ctypes.create_string_buffer(struct.pack("QQQ", os.O_CREAT | os.O_RDWR, 0o600, 0x08), 24)
directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
call("openat2", 437, directory, b"beneath", how, 24)

say("core", "none" if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else "ok")

identity = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())
one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
attempt("credentials", lambda: one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, identity)]))
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(place + "/with-credentials")
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
send = [b"x"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, identity)], 0, place + "/with-credentials"
attempt("credentials-datagram", lambda: sender.sendmsg(*send))
listener = socket.create_server(("127.0.0.1", 0))
sender = socket.create_connection(listener.getsockname())
sender.setsockopt(socket.SOL_SOCKET, 60, 1)  # SO_ZEROCOPY
attempt("zerocopy", lambda: sender.sendmsg([b"x"], [], 0x4000000))

listener = socket.socket(socket.AF_UNIX)
listener.bind(place + "/peer")
listener.listen()
caller = socket.socket(socket.AF_UNIX)
caller.connect(place + "/peer")
peer, _ = listener.accept()
pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
say("peer", "ok" if pid == os.getpid() else "differs")
say("peer-user", "ok" if uid == os.getuid() else "differs")

receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(place + "/datagrams")
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect(place + "/datagrams")
sender.send(b"x")

# Nothing can be made there in a session.
attempt("refused-by-the-file-system", lambda: os.mkdir("/usr/leash-differences"))


def terminal():
    _, slave = pty.openpty()
    os.setsid()
    os.open(os.ttyname(slave), os.O_RDWR)
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
        say("terminal", "ok")
    except OSError:
        say("terminal", "none")


in_child(terminal)

os.mkfifo(place + "/pipe")


def interrupted():
    # Once the signal has been handled there is somebody who writes.
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: os.open(place + "/pipe", os.O_RDWR | os.O_NONBLOCK))
    libc.signal(signal.SIGALRM, handler)  # glibc's asks for a restart
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    ctypes.set_errno(0)
    result = libc.open((place + "/pipe").encode(), os.O_RDONLY)
    say("interrupted", "ok" if result >= 0 else name(ctypes.get_errno()))


in_child(interrupted)

# Another thread looks at the processors of this one while it opens files.
opener, seen = threading.get_native_id(), set()


def look():
    end = time.monotonic() + 10
    while len(seen) < 2 and time.monotonic() < end:
        seen.add(frozenset(os.sched_getaffinity(opener)))


looker = threading.Thread(target=look)
looker.start()
while looker.is_alive():
    os.close(os.open(plain, os.O_RDONLY))
say("processors", "ok" if len(seen) == 1 else "differs")
print("place", os.path.realpath(place))
