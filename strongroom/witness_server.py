"""A witness's HTTP server (C2SP tlog-witness): `POST <prefix>/add-checkpoint`, and everything bounded.

The standard library's server, one thread a connection and so many of them: what a stranger holds up is his own
connection, for a minute at most. It trusts nobody; `audit.witnessing` judges. TLS, where it is wanted, is a proxy's
business: nothing in the protocol is secret, and what is signed needs no channel.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from audit.store import StoreError
from audit.witnessing.answer import TEXT_TYPE, Answer
from audit.witnessing.request import ADD_CHECKPOINT, MAXIMUM_REQUEST_BYTES
from audit.witnessing.state import WitnessStateError
from audit.witnessing.witness import Witness

MAXIMUM_CONNECTIONS = 64
IDLE_SECONDS = 10.0
CONNECTION_SECONDS = 60.0


class WitnessServer(ThreadingHTTPServer):
    """Serves one witness on `address` (host, port; port 0 for a free one). Raises `OSError` if it can't listen."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], witness: Witness, event: Callable[[str], None]) -> None:
        """`event` takes one line for the operator."""
        self.witness = witness
        self.event = event
        self._places = threading.BoundedSemaphore(MAXIMUM_CONNECTIONS)
        self._since: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind, without asking a name server who we are."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take a connection if there is a place for it."""
        if not self._places.acquire(blocking=False):
            return False
        with self._lock:
            self._since[request] = time.monotonic()
        return True

    def close_request(self, request: Any) -> None:
        """Close a connection, and give its place to the next."""
        with self._lock:
            had_place = self._since.pop(request, None) is not None
        super().close_request(request)
        if had_place:
            self._places.release()

    def service_actions(self) -> None:
        """Twice a second: end what has lasted long enough, however busily it drips."""
        latest = time.monotonic() - CONNECTION_SECONDS
        with self._lock:
            overdue = [connection for connection, since in self._since.items() if since < latest]
        for connection in overdue:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection ended in an error: the stranger's, as ours are answered."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "strongroom-witness"
    sys_version = ""
    timeout = IDLE_SECONDS
    server: WitnessServer

    def do_POST(self) -> None:
        if self.path != ADD_CHECKPOINT:
            return self._refuse(404, f"expected {ADD_CHECKPOINT}")
        length = self.headers.get_all("Content-Length") or []
        if "Transfer-Encoding" in self.headers or len(length) != 1 or not (length[0].isascii() and length[0].isdigit()):
            return self._refuse(411, "expected one Content-Length")
        if len(length[0]) > 9 or int(length[0]) > MAXIMUM_REQUEST_BYTES:
            return self._refuse(413, f"expected at most {MAXIMUM_REQUEST_BYTES} bytes")
        size = int(length[0])
        body = self.rfile.read(size)
        if len(body) != size:
            return self._refuse(400, f"expected {size} bytes")
        try:
            answer = self.server.witness.add_checkpoint(body)
        except (StoreError, WitnessStateError) as error:
            # Nothing was cosigned.
            self.server.event(f"event=failed because={error}")
            return self._refuse(500, "this witness can't use its state")
        return self._answer(answer)

    def do_GET(self) -> None:
        self._refuse(405 if self.path == ADD_CHECKPOINT else 404, f"expected POST {ADD_CHECKPOINT}")

    def _refuse(self, status: int, why: str) -> None:
        """Refuse, and read no further from this connection."""
        self.close_connection = True
        self._answer(Answer(status=status, content_type=TEXT_TYPE, body=f"{why}\n".encode()))

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Strangers' requests are not for the operator's log."""
