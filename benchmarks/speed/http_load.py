"""An open-loop HTTP load: requests at random times (Poisson), whatever became of those before.

Latency counts from the time at which a request was due, not from when it was sent: when the server (or this client)
stalls, the requests that had to wait are counted as slow, and none is left out ("coordinated omission"). The client is
lean (raw sockets that stay open, no framework) and lives in a process of its own.
"""

import math
import multiprocessing
import random
import select
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

MOST_WAITING = 512
"""With so many requests under way the server is overloaded: the run ends."""


@dataclass(frozen=True)
class Load:
    """What is sent where."""

    port: int
    path: str
    bodies: Sequence[bytes]
    """In turn."""
    rate: float
    """Requests a second, on average."""
    seconds: float
    seed: int = 0


@dataclass(frozen=True)
class Answered:
    """What came of it."""

    latencies_ms: np.ndarray
    """From due to answered, in order of arrival."""
    late_ms: np.ndarray
    """From due to sent: what the client itself added."""
    replies: Sequence[bytes]
    seconds: float
    """Until the last reply."""
    overloaded: bool

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies_ms) / self.seconds

    def quantile(self, q: float) -> float:
        """Milliseconds; infinite when the server was overloaded."""
        return math.inf if self.overloaded else float(np.quantile(self.latencies_ms, q))


class _Connection:
    """A kept connection with one request at a time; replies carry their length."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._buffer = b""

    def fileno(self) -> int:
        """For select."""
        return self.socket.fileno()

    def send(self, message: bytes, due: float) -> None:
        """Ask; `due` is when this should have happened."""
        self.due = due
        self.socket.sendall(message)

    def receive(self) -> bytes | None:
        """The reply's body once it is whole. Raises ConnectionError for a reply that is not 2xx."""
        data = self.socket.recv(2**18)
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not data or (end and not head.startswith(b"HTTP/1.1 2")):
            raise ConnectionError(self._buffer[:500])
        if not end or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return None
        self._buffer = b""
        return body


def _drive(load: Load) -> Answered:
    rng = random.Random(load.seed)
    head = f"POST {load.path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: "
    messages = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in load.bodies]
    idle: list[_Connection] = []
    asked: set[_Connection] = set()
    latencies, late, replies = list[float](), list[float](), list[bytes]()
    began = time.perf_counter()
    due = began + rng.expovariate(load.rate)
    while (sending := due < began + load.seconds and len(asked) < MOST_WAITING) or asked:
        now = time.perf_counter()
        if sending and due <= now:
            connection = idle.pop() if idle else _Connection(load.port)
            late.append(now - due)
            connection.send(messages[len(late) % len(messages)], due)
            asked.add(connection)
            due += rng.expovariate(load.rate)
            continue
        for connection in select.select(asked, [], [], due - now if sending else None)[0]:
            reply = connection.receive()
            if reply is not None:
                latencies.append(time.perf_counter() - connection.due)
                replies.append(reply)
                asked.remove(connection)
                idle.append(connection)
    seconds = time.perf_counter() - began
    for connection in idle:
        connection.socket.close()
    overloaded = due < began + load.seconds
    return Answered(1000 * np.array(latencies), 1000 * np.array(late), replies, seconds, overloaded)


class Generator:
    """The process that sends; a context manager."""

    def __init__(self) -> None:
        self._process = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def __enter__(self) -> "Generator":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.shutdown()

    def drive(self, load: Load) -> Answered:
        """Send it and wait for the last reply."""
        return self._process.submit(_drive, load).result()
