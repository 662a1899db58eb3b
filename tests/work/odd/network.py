# Network calls, one line of output each: what was done, and the errno that came of it.
import errno, os, socket, sys, time

PORT = 7099
FASTOPEN = 0x20000000
LAYERS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def attempt(name, action):
    try:
        action()
        print(name, 0, flush=True)
    except OSError as error:
        print(name, error.errno, flush=True)


def made(address, kind):
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)


def calls(address, wide):
    for name, ip in (("4", address), ("6", wide), ("mapped", "::ffff:" + address)):
        for layer, kind in LAYERS.items():
            attempt(f"connect-{layer}-{name}", lambda: made(ip, kind).connect((ip, PORT)))
            attempt(f"bind-{layer}-{name}", lambda: made(ip, kind).bind((ip, 0)))
        attempt(f"send-{name}", lambda: made(ip, socket.SOCK_DGRAM).sendto(b"x", (ip, PORT)))
        attempt(f"open-{name}", lambda: made(ip, socket.SOCK_STREAM).sendto(b"x", FASTOPEN, (ip, PORT)))
    for port in (7097, 7096):
        attempt(f"port-{port}", lambda: made(address, socket.SOCK_DGRAM).sendto(b"x", (address, port)))


if sys.argv[1] == "calls":
    for place in sys.argv[2:4]:
        calls(*place.split(","))
    attempt("create-icmp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP))
    attempt("create-raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP))
    attempt("create-icmpv6", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6))
    print("pid", os.getpid(), flush=True)
else:
    # Sockets that are connected now send before and after somebody says so.
    sockets = {}
    for ip in sys.argv[2:]:
        sockets[ip] = made(ip, socket.SOCK_DGRAM)
        sockets[ip].connect((ip, PORT))

    def send(when):
        for ip, one in sockets.items():
            attempt(f"{when} send {ip}", lambda: one.send(b"x"))
            attempt(f"{when} sendmsg {ip}", lambda: one.sendmsg([b"x"]))

    send("before")
    open("/w/odd/up", "w").close()
    while not os.path.exists("/w/odd/go"):
        time.sleep(0.02)
    send("after")
