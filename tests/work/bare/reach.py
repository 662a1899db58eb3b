# Tries to reach process VICTIM (and its process group, and pipe PIPE of it) in every way, and prints what each answered: NAME ERRNO.
# usage: reach.py VICTIM PIPE NAME...
import ctypes, fcntl, os, signal, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
victim, pipe = int(sys.argv[1]), int(sys.argv[2])
NUMBERS = {"tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "pidfd_send_signal": 424,
           "prlimit64": 302, "sched_setaffinity": 203, "sched_setscheduler": 144, "sched_setparam": 142,
           "sched_setattr": 314, "setpriority": 141, "ioprio_set": 251, "kcmp": 312, "get_robust_list": 274,
           "process_madvise": 440}

def call(name, *arguments):
    if libc.syscall(NUMBERS[name], *arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, name)

def information(number):
    # si_signo, si_errno, si_code = SI_QUEUE, padding, si_pid, si_uid
    return ctypes.create_string_buffer(struct.pack("iiiiii", number, 0, -1, 0, os.getpid(), os.getuid()) + bytes(104))

def owner(kind):
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETSIG, signal.SIGTERM)
    if kind == "group":
        fcntl.fcntl(ours, fcntl.F_SETOWN, -victim)
    else:
        fcntl.fcntl(ours, fcntl.F_SETOWN, victim)
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(theirs, b"x")

def read(path):
    with open(path, "rb") as file:
        file.read(64)

def memory():
    start = int(open(f"/proc/{victim}/maps").readline().split("-")[0], 16)
    file = os.open(f"/proc/{victim}/mem", os.O_RDONLY)
    os.pread(file, 16, start)

def pipe_by_place():
    place = os.open(f"/proc/{victim}/fd/{pipe}", os.O_PATH)
    os.close(os.open(f"/proc/self/fd/{place}", os.O_WRONLY | os.O_NONBLOCK))

def from_directory():
    os.chdir(f"/proc/{victim}")
    read("environ")

def place_of_environ():
    place = os.open(f"/proc/{victim}/environ", os.O_PATH)
    read(f"/proc/self/fd/{place}")

T = signal.SIGTERM
WAYS = {
    "kill": lambda: os.kill(victim, T),
    "kill-group": lambda: os.kill(-victim, T),
    "kill-all": lambda: os.kill(-1, T),
    "tkill": lambda: call("tkill", victim, T),
    "tgkill": lambda: call("tgkill", victim, victim, T),
    "rt_sigqueueinfo": lambda: call("rt_sigqueueinfo", victim, T, information(T)),
    "rt_tgsigqueueinfo": lambda: call("rt_tgsigqueueinfo", victim, victim, T, information(T)),
    "pidfd_send_signal": lambda: call("pidfd_send_signal", os.pidfd_open(victim), T, None, 0),
    "owner": lambda: owner("process"),
    "owner-group": lambda: owner("group"),
    "environ": lambda: read(f"/proc/{victim}/environ"),
    "environ-relative": from_directory,
    "environ-place": place_of_environ,
    "status": lambda: read(f"/proc/{victim}/status"),
    "memory": memory,
    "root": lambda: read(f"/proc/{victim}/root/etc/hostname"),
    "cwd": lambda: os.listdir(f"/proc/{victim}/cwd"),
    "exe": lambda: read(f"/proc/{victim}/exe"),
    "pipe": lambda: os.close(os.open(f"/proc/{victim}/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)),
    "pipe-place": pipe_by_place,
    "comm": lambda: open(f"/proc/{victim}/oom_score_adj", "w").write("500"),
    "kcmp": lambda: call("kcmp", os.getpid(), victim, 1, 0, 0),
    "get_robust_list": lambda: call("get_robust_list", victim, ctypes.byref(ctypes.c_void_p()), ctypes.byref(ctypes.c_size_t())),
    "prlimit64": lambda: call("prlimit64", victim, 7, struct.pack("QQ", 64, 64), None),
    "sched_setaffinity": lambda: call("sched_setaffinity", victim, 8, struct.pack("Q", 1)),
    "sched_setscheduler": lambda: call("sched_setscheduler", victim, 3, struct.pack("i", 0)),
    "sched_setparam": lambda: call("sched_setparam", victim, struct.pack("i", 0)),
    "sched_setattr": lambda: call("sched_setattr", victim, struct.pack("IIQiIQQQ", 48, 3, 0, 0, 0, 0, 0, 0), 0),
    "setpriority": lambda: call("setpriority", 0, victim, 5),
    "setpriority-group": lambda: call("setpriority", 1, victim, 5),
    "setpriority-user": lambda: call("setpriority", 2, os.getuid(), 19),
    "ioprio_set": lambda: call("ioprio_set", 1, victim, 3 << 13),
    "ioprio_set-user": lambda: call("ioprio_set", 3, os.getuid(), 3 << 13),
}
for name in sys.argv[3:]:
    try:
        WAYS[name]()
        print(name, 0, flush=True)
    except OSError as error:
        print(name, error.errno, flush=True)
