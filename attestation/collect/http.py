"""HTTP to a service beside us, in the same guest: one POST, with bounds on what comes back and on how long it takes.

No TLS, no names to look up, no redirects: the other end is a unix socket or a port of the loopback interface. What it
answers is evidence, which the other party verifies; here only its size counts.
"""

import http.client
import io
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from attestation.collect.errors import CollectionFailed

TIMEOUT_SECONDS: Final = 60.0
"""For a whole exchange: the service asks another one, far away."""
RESPONSE_LIMIT_BYTES: Final = 64 * 1024
_PROBE_SECONDS = 2.0
_PIECE_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A status and a body of at most `RESPONSE_LIMIT_BYTES`."""

    status: int
    body: bytes


class LocalService(Protocol):
    """A service in this guest."""

    @property
    def name(self) -> str:
        """Its address, for messages."""
        ...

    def obstacle(self) -> str | None:
        """Why nobody answers there, in words; None if somebody does."""
        ...

    def post(self, path: str, body: bytes) -> Response:
        """Send JSON, and take the answer; raises `CollectionFailed`."""
        ...


class HttpService:
    """The real one: `connect` opens its socket with a timeout in seconds."""

    def __init__(
        self,
        name: str,
        connect: Callable[[float], socket.socket],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._name = name
        self._connect = connect
        self._monotonic = monotonic
        self._timeout_seconds = timeout_seconds

    @classmethod
    def on_socket(cls, path: Path) -> "HttpService":
        """Behind a unix socket."""

        def connect(timeout_seconds: float) -> socket.socket:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(timeout_seconds)
                connection.connect(str(path))
            except BaseException:
                connection.close()
                raise
            return connection

        return cls(str(path), connect)

    @classmethod
    def on_loopback(cls, port: int) -> "HttpService":
        """Behind a port of 127.0.0.1."""
        return cls(f"127.0.0.1:{port}", lambda seconds: socket.create_connection(("127.0.0.1", port), timeout=seconds))

    @property
    def name(self) -> str:
        """Its address."""
        return self._name

    def obstacle(self) -> str | None:
        """Why it takes no connection."""
        try:
            self._connect(_PROBE_SECONDS).close()
        except FileNotFoundError:
            return "no such socket"
        except ConnectionRefusedError:
            return "nobody listens there"
        except OSError as error:
            return error.strerror or "no connection in time"
        return None

    def post(self, path: str, body: bytes) -> Response:
        """One request on a connection of its own; raises `CollectionFailed`."""
        deadline = self._monotonic() + self._timeout_seconds
        try:
            with self._connect(self._timeout_seconds) as opened:
                return self._exchange(_UntilDeadline(opened, lambda: deadline - self._monotonic()), path, body)
        except TimeoutError as error:
            raise CollectionFailed(f"{self._name}: expected an answer in {self._timeout_seconds:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise CollectionFailed(f"{self._name}: expected an HTTP answer, found {_kind(error)}") from error

    def _exchange(self, opened: "_UntilDeadline", path: str, body: bytes) -> Response:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = opened
        headers = {"Content-Type": "application/json", "Accept": "*/*", "Connection": "close"}
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return Response(status=answer.status, body=self._body(answer))

    def _body(self, answer: http.client.HTTPResponse) -> bytes:
        body = b""
        while len(body) <= RESPONSE_LIMIT_BYTES:
            piece = answer.read1(_PIECE_BYTES)
            if not piece:
                return body
            body += piece
        raise CollectionFailed(f"{self._name}: expected at most {RESPONSE_LIMIT_BYTES} bytes, found more")


class _UntilDeadline:
    """A socket, as far as `http.client` uses one, whose every step ends with the whole exchange's time."""

    def __init__(self, opened: socket.socket, left_seconds: Callable[[], float]) -> None:
        self._opened = opened
        self._left_seconds = left_seconds

    def sendall(self, data: bytes) -> None:
        self._in_time().sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._in_time))

    def close(self) -> None:
        """Whoever opened it closes it."""

    def _in_time(self) -> socket.socket:
        left = self._left_seconds()
        if left <= 0:
            raise TimeoutError
        self._opened.settimeout(left)
        return self._opened


class _Reader(io.RawIOBase):
    def __init__(self, in_time: Callable[[], socket.socket]) -> None:
        self._in_time = in_time

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._in_time().recv_into(buffer)


def _kind(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
