import os, subprocess, threading, tempfile, ctypes, sys, fcntl
os.chdir("/w/odd")
# vfork and posix_spawn
print(subprocess.run(["echo", "vfork"], capture_output=True, close_fds=False).stdout)
pid = os.posix_spawn("/bin/true", ["true"], os.environ); print(os.waitpid(pid, 0)[1])
# an exec by a thread that is not the first
code = 'import os, threading\nthreading.Thread(target=lambda: os.execv("/bin/echo", ["echo", "from a thread"])).start()\nthreading.Event().wait()'
print(subprocess.run([sys.executable, "-c", code], capture_output=True).stdout)
# a script, and a script whose interpreter is a script
open("inner", "w").write("#!/bin/sh\necho inner $1\n"); os.chmod("inner", 0o755)
open("outer", "w").write("#!/w/odd/inner\n"); os.chmod("outer", 0o755)
print(subprocess.run(["./outer"], capture_output=True).stdout)
# no format of a program; nobody has it open for writing any more, as often as it is written
errors = set()
for index in range(200):
    open("broken", "w").write("broken\n"); os.chmod("broken", 0o755)
    try: os.execv("./broken", ["x"])
    except OSError as error: errors.add(error.errno)
print(errors)
# a large argument list
print(len(subprocess.run(["echo"] + ["x" * 1000] * 1000, capture_output=True).stdout))
# threads that open at once
def opens():
    for index in range(200): open("/w/odd/program.py").close()
threads = [threading.Thread(target=opens) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("0" in os.listdir("/proc/self/fd"))
# unnamed files, holes, a directory with many entries
with tempfile.TemporaryFile(dir=".") as file: file.write(b"x"); file.flush(); print(os.fstat(file.fileno()).st_nlink)
with open("hole", "wb") as file: file.truncate(1 << 30)
print(os.path.getsize("hole"))
os.mkdir("many")
for index in range(5000): open(f"many/{index}", "w").close()
print(len(os.listdir("many")))
# modes follow the mask: each process's own, one for all its threads, through an exec, too, and one with a child that was made so
def mode(name): open(name, "w").close(); return oct(os.stat(name).st_mode)
def by_thread(): thread = threading.Thread(target=os.umask, args=(0o007,)); thread.start(); thread.join()
def by_thread_and_exec(): by_thread(); os.execv(sys.executable, [sys.executable, "-c", "import os; open('after-exec', 'w').close(); print(oct(os.stat('after-exec').st_mode))"])
def by_child(flags):
    child = ctypes.CDLL(None).syscall(56, flags | 17, 0, 0, 0, 0)  # clone, SIGCHLD
    if child == 0: os.umask(0o027); os._exit(0)
    os.waitpid(child, 0)
os.umask(0o077); print(mode("private"))
os.umask(0o002); os.mkdir("shared"); print(oct(os.stat("shared").st_mode))
for index, change in enumerate([by_thread, by_thread_and_exec, lambda: by_child(0), lambda: by_child(0x200)]):  # CLONE_FS
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.umask(0o070); before = mode(f"before-{index}"); change()
        print(before, mode(f"after-{index}"), flush=True)
        os._exit(0)
    print(os.waitpid(child, 0)[1], mode(f"parent-{index}"))
# appending, truncating, exclusive
open("a", "w").write("one"); open("a", "a").write("two"); print(open("a").read())
try: open("a", "x")
except FileExistsError as error: print(error.errno)
for path, flags in [("none/x", os.O_CREAT), ("a/x", os.O_RDONLY), ("many", os.O_WRONLY), ("", os.O_RDONLY), ("x" * 300, os.O_RDONLY), ("new/", os.O_CREAT)]:
    try: os.open(path, flags); print("opened")
    except OSError as error: print(path[:8], error.errno)
# nothing is opened that is there, whatever it is
os.symlink("nowhere", "to-nothing")
for path in ["a", "many", "many/", ".", "..", "/", "many/..", "to-nothing", "none/x", "a/x", "new/", "/proc/self/fd/0"]:
    try: os.open(path, os.O_CREAT | os.O_EXCL); print("opened")
    except OSError as error: print(path, error.errno)
os.symlink("loop", "loop")
try: open("loop")
except OSError as error: print(error.errno)
os.symlink("made-by-link", "dangling"); open("dangling", "w").close(); print(os.path.exists("made-by-link"))
print(os.path.basename(os.readlink("/proc/self/fd/%d" % os.open("a", os.O_RDONLY))))
print(open("/proc/self/comm").read().strip() == open("/proc/thread-self/comm").read().strip(), open("/dev/null").read())
print(fcntl.fcntl(os.open("a", os.O_RDONLY | os.O_CLOEXEC), fcntl.F_GETFD), fcntl.fcntl(os.open("a", os.O_RDWR | os.O_APPEND), fcntl.F_GETFL) & os.O_APPEND)
# what is opened under its own path has the flags that were asked for
for name, flags in [("a", 0), ("a", os.O_NONBLOCK), ("a", os.O_NOCTTY | os.O_NOATIME), ("a", os.O_NOFOLLOW), ("many", os.O_DIRECTORY), ("many/../a", 0)]:
    file = os.open(os.path.join(os.getcwd(), name), flags)
    # A descriptor from openat2 doesn't show O_LARGEFILE.
    print(name, oct(fcntl.fcntl(file, fcntl.F_GETFL) & ~(0o100000 | os.O_NOFOLLOW)), os.path.basename(os.readlink("/proc/self/fd/%d" % file)))
# processors stay those that the program chose, and files are opened from any of them; never is it on another one, which a thread looks at
allowed = os.sched_getaffinity(0)
opener, seen, done = threading.get_native_id(), set(), threading.Event()
def look():
    while not done.is_set(): seen.update(os.sched_getaffinity(opener))
for chosen in [{max(allowed)}, {min(allowed)}, allowed]:
    os.sched_setaffinity(0, chosen); seen.clear(); done.clear()
    looker = threading.Thread(target=look); looker.start()
    for index in range(200): os.close(os.open("a", os.O_RDONLY))
    done.set(); looker.join()
    print(os.sched_getaffinity(0) == chosen, seen <= chosen)
