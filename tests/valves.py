"""A forwarding proxy that stops in the middle: a network that goes dark after so many bytes, and may come back.

Nothing is read of what passes. What an end has sent before the valve closed arrives; the rest waits until it opens.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_PIECE_BYTES = 2**16


@dataclass
class Way:
    """One direction, of all connections together: `passed` bytes so far, none beyond `limit`."""

    passed: int = 0
    limit: int | None = None
    waiting: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, wanted: int) -> int:
        """Wait until at least a byte may pass; returns how many may, and counts them."""
        with self.changed:
            self.waiting += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.limit is None or self.passed < self.limit)
            self.waiting -= 1
            count = wanted if self.limit is None else min(wanted, self.limit - self.passed)
            self.passed += count
            return count

    def close(self, after_bytes: int) -> None:
        """Let so many more through."""
        with self.changed:
            self.limit = self.passed + after_bytes

    def open(self) -> None:
        """Let everything through."""
        with self.changed:
            self.limit = None
            self.changed.notify_all()

    @property
    def is_full(self) -> bool:
        """Whether the limit was reached and somebody has more to send."""
        with self.changed:
            return self.limit is not None and self.passed >= self.limit and self.waiting > 0


class Valve:
    """Stands before a port of this machine; `port` is where to call instead. `up` is towards it, `down` back."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.up, self.down = Way(), Way()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def closed(self, *, up: int | None = None, down: int | None = None) -> Iterator[None]:
        """Let so many more bytes through; everything again afterwards."""
        for way, after_bytes in ((self.up, up), (self.down, down)):
            if after_bytes is not None:
                way.close(after_bytes)
        try:
            yield
        finally:
            self.open()

    def open(self) -> None:
        """Let everything through."""
        self.up.open()
        self.down.open()

    def cut(self) -> None:
        """End all connections, with whatever waits in them."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Accept nobody any more, and end all connections."""
        self._listener.close()
        self.cut()
        self.open()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            try:
                behind = socket.create_connection(("127.0.0.1", self._behind))
            except OSError:
                caller.close()
                continue
            self._pairs.append((caller, behind))
            for source, sink, way in ((caller, behind, self.up), (behind, caller, self.down)):
                threading.Thread(target=_pass, args=(source, sink, way), daemon=True).start()


def _pass(source: socket.socket, sink: socket.socket, way: Way) -> None:
    """One direction of one connection, until either end is gone: then the other learns of it, too."""
    with suppress(OSError):
        while data := memoryview(source.recv(_PIECE_BYTES)):
            while data:
                count = way.take(len(data))
                sink.sendall(data[:count])
                data = data[count:]
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    source.close()
