# Reads the memory of a process that runs the program argv[1], which holds a key; and its own.
import os, subprocess, sys
victim = subprocess.Popen([sys.argv[1], "-c", "import sys\nkey = open('/w/tool/key', 'rb').read(); print(id(key), flush=True)\nsys.stdin.read()"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"KEY": "in the environment"})
address = int(victim.stdout.readline())
def read(process, name, at, wanted):
    try:
        file = os.open(f"/proc/{process}/{name}", os.O_RDONLY)
        return wanted in (os.pread(file, 64, at) if at else os.read(file, 4096))
    except OSError as error: return error.errno
print([read(victim.pid, name, address, b"SECRET") for name in ("mem", f"task/{victim.pid}/mem")], read(victim.pid, "environ", 0, b"in the environment"))
own = b"OWN"
print(read(os.getpid(), "mem", id(own), own), read("self", "mem", id(own), own), read("self", "environ", 0, b"PATH="))
try: os.open(f"/proc/{victim.pid}/mem", os.O_RDWR)
except OSError as error: print(error.errno)
victim.communicate()
