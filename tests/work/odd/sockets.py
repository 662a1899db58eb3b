import os, socket, threading, array
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen()
def serve():
    peer, _ = server.accept()
    while data := peer.recv(65536): peer.sendall(data)
threading.Thread(target=serve, daemon=True).start()
client = socket.create_connection(server.getsockname())
client.sendmsg([b"one", b"two"]); print(client.recv(6, socket.MSG_WAITALL))
big = b"x" * (3 << 20); sent = 0
def feed(): client.sendall(big)
threading.Thread(target=feed).start(); got = 0
while got < len(big): got += len(client.recv(65536))
print(got)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 0))
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); v.sendto(b"hi", u.getsockname()); print(u.recv(9))
v.sendmsg([b"a", b"b"], [], 0, u.getsockname()); print(u.recv(9))
w = socket.socket(socket.AF_INET); w.setblocking(False)
closed = socket.socket(); closed.bind(("127.0.0.1", 0))
print(socket.socket().connect_ex(closed.getsockname()))
a, b = socket.socketpair(); r, wr = os.pipe()
socket.send_fds(a, [b"z"], [r, wr]); data, fds, *_ = socket.recv_fds(b, 9, 4); os.write(fds[1], b"through"); print(os.read(r, 9))
name = "/w/odd/socket"
listener = socket.socket(socket.AF_UNIX); listener.bind(name); listener.listen(); print(listener.getsockname())
c = socket.socket(socket.AF_UNIX); c.connect(name); print(c.getpeername()); os.unlink(name)
d = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); d.bind("\0leash-odd"); e = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); e.sendto(b"abstract", "\0leash-odd"); print(d.recv(9))
c.close(); peer, _ = listener.accept(); peer.close()
try: c2 = socket.socketpair(); c2[1].close(); c2[0].sendmsg([b"x"])
except BrokenPipeError as error: print(error.errno)