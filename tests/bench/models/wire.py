"""HTTP/1.1 over kept connections with as little of Python's own time in it as can be: a client
that costs a millisecond a request would hide what a server does in a tenth of one."""

import json
import selectors
import socket
import time
import urllib.parse

PIECE = 1 << 18


def request(door, method, path, parameters=None, body=None, length=None):
    """The bytes of a request; `length` announces a body that is sent later."""
    if parameters:
        path += "?" + urllib.parse.urlencode(parameters)
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"host: {door.host}:{door.port}"]
    if door.token:
        lines.append(f"authorization: Bearer {door.token}")
    if body is not None:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    elif length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


class Incoming:
    """An answer as it comes."""

    def __init__(self):
        self.bytes = bytearray()

    def take(self, piece):
        """Answers (status, body) once it is whole, and begins anew."""
        self.bytes += piece
        end = self.bytes.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self.bytes[:end]).lower()
        begin = end + 4
        at = head.find(b"content-length:")
        if at >= 0:
            size = int(head[at + 15:].split(b"\r\n", 1)[0])
            if len(self.bytes) < begin + size:
                return None
            body = bytes(self.bytes[begin:begin + size])
        elif b"transfer-encoding: chunked" in head:
            if not self.bytes.endswith(b"0\r\n\r\n"):
                return None
            body = unchunked(bytes(self.bytes[begin:]))
        else:
            body = b""
        status = int(head[9:12])
        self.bytes.clear()
        return status, body


def unchunked(raw):
    whole, at = b"", 0
    while True:
        end = raw.index(b"\r\n", at)
        size = int(raw[at:end].split(b";")[0], 16)
        if size == 0:
            return whole
        whole += raw[end + 2:end + 2 + size]
        at = end + 4 + size


class Wire:
    """One connection, one request after the other."""

    def __init__(self, door):
        self.door = door
        self.socket = connected(door)

    def ask(self, sent):
        """The body of an answer of 200."""
        self.socket.sendall(sent)
        incoming = Incoming()
        while True:
            piece = self.socket.recv(PIECE)
            if not piece:
                raise AssertionError(f"{self.door.name} closed the connection")
            answer = incoming.take(piece)
            if answer:
                status, body = answer
                if status != 200:
                    raise AssertionError(f"{self.door.name}: {status} {body[:300]}")
                return body

    def put(self, path, pieces, size):
        """Sends a file as it is made."""
        self.socket.sendall(request(self.door, "PUT", path, length=size))
        for piece in pieces:
            self.socket.sendall(piece)
        return self.ask(b"")

    def fetch(self, path, seen):
        """Reads a file, piece by piece; answers how many bytes came."""
        self.socket.sendall(request(self.door, "GET", path))
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(PIECE)
        head, rest = head.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 200"):
            raise AssertionError(f"{self.door.name}: {head[:300]} {rest[:300]}")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if b"content-length" in fields:
            return self._plain(int(fields[b"content-length"]), rest, seen)
        return self._chunked(rest, seen)

    def _plain(self, size, piece, seen):
        buffer, come = memoryview(bytearray(PIECE)), 0
        while True:
            seen(piece)
            come += len(piece)
            if come >= size:
                return come
            read = self.socket.recv_into(buffer)
            if not read:
                raise AssertionError(f"{self.door.name} closed the connection")
            piece = buffer[:read]

    def _chunked(self, rest, seen):
        stream, come = self.socket.makefile("rb"), 0
        # What was read with the head belongs before what the stream reads.
        stream = Joined(rest, stream)
        while True:
            size = int(stream.readline().split(b";")[0], 16)
            piece = stream.read(size)
            stream.read(2)
            if size == 0:
                return come
            seen(piece)
            come += size


class Joined:
    """Some bytes, and then a stream."""

    def __init__(self, first, stream):
        self.first, self.stream = first, stream

    def read(self, size):
        piece, self.first = self.first[:size], self.first[size:]
        return piece + self.stream.read(size - len(piece)) if len(piece) < size else piece

    def readline(self):
        line, end, rest = self.first.partition(b"\n")
        self.first = rest
        return line + end if end else line + self.stream.readline()


def connected(door):
    made = socket.create_connection((door.host, door.port), 300)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def repeated(sent, times):
    """The same request so many times in all; `None` ends it."""
    left = iter(range(times))
    return lambda: None if next(left, None) is None else sent


def hammer(door, following, connections, seconds=None):
    """Requests over many kept connections at once, each connection one after the other, as
    `following` gives them, until it gives none or the time is over. Answers (bodies, failures,
    seconds)."""
    chosen = selectors.DefaultSelector()
    bodies, failures = [], []
    begin = time.perf_counter()
    end = begin + seconds if seconds else float("inf")
    for _ in range(connections):
        sent = following()
        if sent is None:
            break
        made = connected(door)
        made.sendall(sent)
        made.setblocking(False)
        chosen.register(made, selectors.EVENT_READ, Incoming())
    while chosen.get_map():
        ready = chosen.select(120)
        if not ready:
            raise AssertionError(f"{door.name} does not answer for two minutes")
        now = time.perf_counter()
        for key, _ in ready:
            piece = key.fileobj.recv(PIECE)
            if not piece:
                raise AssertionError(f"{door.name} closed a connection")
            answer = key.data.take(piece)
            if answer is None:
                continue
            status, body = answer
            (bodies if status == 200 else failures).append(body)
            sent = following() if now < end else None
            if sent is None:
                chosen.unregister(key.fileobj)
                key.fileobj.close()
            else:
                key.fileobj.send(sent)
    return bodies, failures, time.perf_counter() - begin
