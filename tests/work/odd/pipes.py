import os, threading, signal, time
os.chdir("/w/odd")
for name in ("one", "two", "three"):
    if os.path.exists(name): os.unlink(name)
    os.mkfifo(name)
# Many wait for a writer; others still get their files.
threads = [threading.Thread(target=lambda: os.close(os.open("one", os.O_RDONLY))) for _ in range(40)]
for thread in threads: thread.start()
print(len(open("/etc/hosts").read()) > 0)
writer = os.open("one", os.O_WRONLY)
for thread in threads: thread.join()
os.close(writer)
# A handled signal breaks off the wait.
def handler(*_): raise TimeoutError
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try: os.open("two", os.O_RDONLY); print("opened")
except TimeoutError: print("interrupted")
# So does a killing one.
child = os.fork()
if child == 0:
    os.open("three", os.O_RDONLY)
    os._exit(0)
time.sleep(0.2)
os.kill(child, signal.SIGTERM)
print(os.waitpid(child, 0)[1])