# What a session may do with processes of its own, as ungoverned: signals to a child, its group and itself, a look into it, limits of its own.
import os, pty, resource, signal, subprocess, time

def child():
    return subprocess.Popen(["sleep", "600"], start_new_session=True)

for send in (lambda p: os.kill(p, signal.SIGTERM), lambda p: os.killpg(p, signal.SIGTERM),
             lambda p: signal.pidfd_send_signal(os.pidfd_open(p), signal.SIGTERM)):
    process = child()
    send(process.pid)
    print(process.wait())
process = child()
# A program that is being started has none for a moment.
environment = ""
while not environment:
    environment = open(f"/proc/{process.pid}/environ").read()
print(os.path.basename(os.readlink(f"/proc/{process.pid}/cwd")), "PATH=" in environment)
print(open(f"/proc/{process.pid}/status").readline().split()[0], open("/proc/self/stat").read().split()[0] == str(os.getpid()))
print(os.path.realpath("/proc/self") == f"/proc/{os.getpid()}", len(os.listdir("/proc/self/task")))
process.kill()
print(process.wait())
hit = []
signal.signal(signal.SIGUSR1, lambda *_: hit.append(1))
os.kill(os.getpid(), signal.SIGUSR1)
os.killpg(0, signal.SIGUSR1)
print(len(hit))
resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, (100, 100))
os.sched_setaffinity(os.getpid(), os.sched_getaffinity(0))
os.setpriority(os.PRIO_PROCESS, 0, 1)
os.setpriority(os.PRIO_PROCESS, os.getpid(), 2)
print(resource.getrlimit(resource.RLIMIT_NOFILE), os.getpriority(os.PRIO_PROCESS, 0))
master, slave = pty.openpty()
again = os.open(os.ttyname(slave), os.O_RDWR | os.O_NOCTTY)
os.write(again, b"typed\n")
print(os.read(master, 5))
shared = subprocess.run(["sh", "-c", "echo $0 | tee /dev/stderr 2>&1; cat /dev/fd/3 3<<X\nhere\nX", "said"], capture_output=True)
print(shared.stdout)
