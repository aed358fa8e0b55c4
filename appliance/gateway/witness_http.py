"""One HTTP request to a witness, with everything bounded: time, bytes, redirects (none), proxies (none).

The witness is trusted with nothing: what it answers is verified in the enclave. Called by `witness_courier.py`.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from appliance.config import WITNESS_URL
from audit.witnessing.answer import MAXIMUM_ANSWER_BYTES, Answer
from audit.witnessing.request import ADD_CHECKPOINT
from protocol.errors import MalformedError

ANSWER_SECONDS = 10.0


class WitnessAwayError(Exception):
    """The witness did not answer in time, or not in HTTP; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessUrl:
    """Where a witness takes checkpoints."""

    secure: bool
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> "WitnessUrl":
        """Read a submission prefix; raises `MalformedError`."""
        match = WITNESS_URL.fullmatch(url)
        if match is None:
            raise MalformedError(f"witness: expected http(s)://host:port/prefix, found {url[:120]!r}")
        secure = match["scheme"] == "https"
        port = int(match["port"]) if match["port"] else 443 if secure else 80
        if port > 65_535:
            raise MalformedError(f"witness: expected a port of at most 65535, found {port}")
        return cls(secure=secure, host=match["host"].strip("[]"), port=port, prefix=match["prefix"])


def post(url: WitnessUrl, body: bytes, *, seconds: float = ANSWER_SECONDS) -> Answer:
    """Send `add-checkpoint`, and wait for the whole answer at most so many seconds; raises `WitnessAwayError`."""
    connection = (
        http.client.HTTPSConnection(url.host, url.port, timeout=seconds, context=ssl.create_default_context())
        if url.secure
        else http.client.HTTPConnection(url.host, url.port, timeout=seconds)
    )
    try:
        connection.connect()
        with _deadline(connection.sock, seconds):
            headers = {"Content-Type": "text/plain; charset=utf-8", "Connection": "close"}
            connection.request("POST", url.prefix + ADD_CHECKPOINT, body=body, headers=headers)
            response = connection.getresponse()
            # One byte more than an answer may have, so that one which goes on is no answer.
            data = response.read(MAXIMUM_ANSWER_BYTES + 1)
            kind = response.headers.get("Content-Type", "")
            return Answer(status=response.status, content_type=kind, body=data)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise WitnessAwayError(f"{type(error).__name__}: {error}"[:200]) from error
    finally:
        connection.close()


@contextmanager
def _deadline(connected: socket.socket, seconds: float) -> Iterator[None]:
    """End the connection after this time, however busily the other end drips its bytes."""

    def end() -> None:
        with suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
