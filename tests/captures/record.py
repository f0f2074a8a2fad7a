#!/usr/bin/env python3
"""Records the captures in this directory: real exchanges between two network stacks, seen on the server's interface.

Needs root, and tcpdump, curl and Python from `cargo xtask setup`. The server is the "guest" (02:00:00:00:00:01). Run it in
this directory to record anew; sequence numbers, ports and identifications will differ, the tests do not depend on them.
"""

import os
import socket
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
RUN = f"colo-record-{os.getpid()}"
GUEST, CLIENT = f"{RUN}-g", f"{RUN}-c"
V4, V6 = ("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def inside(namespace, *words, **options):
    return subprocess.Popen(["ip", "netns", "exec", namespace, *words], **options)


def topology():
    for name in (GUEST, CLIENT):
        ip("netns", "add", name)
    ip("link", "add", "eth0", "netns", GUEST, "type", "veth", "peer", "name", "eth0", "netns", CLIENT)
    for number, name in enumerate((GUEST, CLIENT)):
        n = ("-n", name)
        ip(*n, "link", "set", "lo", "up")
        ip(*n, "link", "set", "eth0", "address", f"02:00:00:00:00:0{number + 1}")
        inside(name, "ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "off",
               stdout=subprocess.DEVNULL).wait()
        ip(*n, "addr", "add", f"{V4[number]}/24", "dev", "eth0")
        ip(*n, "addr", "add", f"{V6[number]}/64", "dev", "eth0", "nodad")
        ip(*n, "link", "set", "eth0", "up")
    time.sleep(1)


def record(name, server, client, precision="micro"):
    """Runs `server` and `client`, modes of this program, and keeps what passed the server's interface."""
    dump = inside(GUEST, "tcpdump", "-i", "eth0", "-U", "-s", "0", f"--time-stamp-precision={precision}", "-w",
                  os.path.join(HERE, name), stderr=subprocess.DEVNULL)
    time.sleep(0.7)
    serving = inside(GUEST, sys.executable, __file__, *server)
    time.sleep(0.7)
    subprocess.run(["ip", "netns", "exec", CLIENT, *client], check=True, stdout=subprocess.DEVNULL)
    time.sleep(0.7)
    for process in (serving, dump):
        process.terminate()
        process.wait()


def content(size):
    return b"".join(b"%07d\n" % n for n in range(size // 8))


def listen(address, kind):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return s


def serve_http(address):
    s = listen(address, socket.SOCK_STREAM)
    s.bind((address, 80))
    s.listen(8)
    while True:
        peer, _ = s.accept()
        request = b""
        while b"\r\n\r\n" not in request:
            request += peer.recv(4096)
        if request.startswith(b"POST"):
            wanted = int(request.lower().split(b"content-length:")[1].split()[0])
            body = request.split(b"\r\n\r\n", 1)[1]
            while len(body) < wanted:
                body += peer.recv(65536)
            answer = b"%d bytes\n" % len(body)
        else:
            answer = content(40_000)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(answer) + answer)
        peer.close()


def serve_chat(address):
    s = listen(address, socket.SOCK_STREAM)
    s.bind((address, 22))
    s.listen(1)
    peer, _ = s.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.sendall(b"SSH-2.0-colo\r\n")
    while True:
        key = peer.recv(64)
        if not key:
            break
        peer.sendall(key.upper())
    peer.close()


def chat(address):
    s = socket.create_connection((address, 22))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.recv(64)
    for key in b"uname -a; uptime; exit\n":
        s.sendall(bytes([key]))
        s.recv(64)
    s.close()


def serve_dns(address):
    """Answers A queries with 192.0.2.53, in the format of RFC 1035."""
    s = listen(address, socket.SOCK_DGRAM)
    s.bind((address, 53))
    while True:
        query, peer = s.recvfrom(512)
        header = query[:2] + struct.pack(">HHHHH", 0x8580, 1, 1, 0, 0)
        answer = struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton("192.0.2.53")
        s.sendto(header + query[12:] + answer, peer)


def dns(address):
    s = listen(address, socket.SOCK_DGRAM)
    for number in range(12):
        name = b"".join(bytes([len(part)]) + part for part in (b"host%d" % number, b"example", b"org"))
        s.sendto(struct.pack(">HHHHHH", number * 7919 & 0xFFFF, 0x0100, 1, 0, 0, 0) + name + b"\0\0\1\0\1",
                 (address, 53))
        s.recv(512)


def serve_echo(address):
    s = listen(address, socket.SOCK_DGRAM)
    s.bind((address, 7))
    while True:
        data, peer = s.recvfrom(65535)
        s.sendto(data, peer)


def echo(address):
    s = listen(address, socket.SOCK_DGRAM)
    for size in (10, 1472, 1473, 4000, 9000):
        s.sendto((content(size + 8))[:size], (address, 7))
        s.recv(65535)


def ping(address):
    v6 = ":" in address
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW,
                      socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
    s.settimeout(2)
    for sequence in range(6):
        body = struct.pack(">HH", 0x4C4F, sequence) + content(56 + 500 * sequence)[:56 + 500 * sequence]
        kind = 128 if v6 else 8
        packet = bytes([kind, 0, 0, 0]) + body
        padded = packet + b"\0" * (len(packet) % 2)
        total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
        total = (total & 0xFFFF) + (total >> 16)
        packet = packet[:2] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + packet[4:]
        s.sendto(packet, (address, 0))
        s.recv(65535)
    # A port nobody listens on: an ICMP error comes back.
    u = listen(address, socket.SOCK_DGRAM)
    u.sendto(b"anybody?", (address, 9))
    time.sleep(0.2)


def idle():
    time.sleep(60)


def main():
    me = [sys.executable, __file__]
    try:
        topology()
        for family, address in (("v4", V4[0]), ("v6", V6[0])):
            url = f"http://[{address}]/" if family == "v6" else f"http://{address}/"
            upload = os.path.join("/tmp", f"{RUN}-upload")
            with open(upload, "wb") as f:
                f.write(content(20_000))
            record(f"http-{family}.pcap", ["serve_http", address],
                   ["curl", "-sS", url, "--next", "-sS", "--data-binary", f"@{upload}", url],
                   precision="nano" if family == "v6" else "micro")
            os.unlink(upload)
            record(f"chat-{family}.pcap", ["serve_chat", address], [*me, "chat", address])
            record(f"dns-{family}.pcap", ["serve_dns", address], [*me, "dns", address])
            record(f"fragments-{family}.pcap", ["serve_echo", address], [*me, "echo", address])
            record(f"ping-{family}.pcap", ["idle"], [*me, "ping", address])
    finally:
        for name in (GUEST, CLIENT):
            subprocess.run(["ip", "netns", "del", name], check=False)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        globals()[sys.argv[1]](*sys.argv[2:])
    else:
        main()
