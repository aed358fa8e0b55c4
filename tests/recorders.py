"""Forwarding proxies that keep every byte that passes: what somebody on a socket, or behind TLS, gets to see."""

import os
import select
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from protocol.credentials import new_credential_key, pem_of
from protocol.wire.methods import GATEWAY_NAME

_PIECE_BYTES = 2**18
_BACKLOG_BYTES = 2**23
_Connect = Callable[[], socket.socket]
_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Recorder:
    """Accepts on `listener`, connects each time by `connect`, and passes bytes both ways.

    `wrap` ends the caller's TLS, where there is one.
    """

    def __init__(
        self,
        listener: socket.socket,
        connect: _Connect,
        wrap: Callable[[socket.socket], socket.socket] = lambda caller: caller,
    ) -> None:
        self._listener = listener
        self._connect = connect
        self._wrap = wrap
        self._lock = threading.Lock()
        self._recorded = bytearray()
        listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def recorded(self) -> bytes:
        """All bytes so far, of all connections and both directions, in the order in which pieces came."""
        with self._lock:
            return bytes(self._recorded)

    def recorded_from(self, start: int) -> bytes:
        """Those after the first `start`."""
        with self._lock:
            return bytes(self._recorded[start:])

    def close(self) -> None:
        """Accept nobody any more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        try:
            with self._wrap(caller) as inside, self._connect() as outside:
                self._relay(inside, outside)
        except OSError:
            caller.close()  # Either end is gone, which the other learns by this.

    def _relay(self, one: socket.socket, other: socket.socket) -> None:
        waiting = {one: bytearray(), other: bytearray()}
        for end in waiting:
            end.setblocking(False)
        # One thread for both ways: an SSL socket must not be read and written at the same time.
        while True:
            moved = False
            for source, sink in ((one, other), (other, one)):
                try:
                    if len(waiting[sink]) < _BACKLOG_BYTES:
                        data = source.recv(_PIECE_BYTES)
                        if not data:
                            return
                        moved = True
                        waiting[sink] += data
                        with self._lock:
                            self._recorded += data
                except _AGAIN:
                    pass
                try:
                    if waiting[sink]:
                        del waiting[sink][: sink.send(waiting[sink])]
                        moved = True
                except _AGAIN:
                    pass
            if not moved:
                select.select([one, other], [end for end, data in waiting.items() if data], [], 1.0)


def record_unix_socket(path: Path) -> Recorder:
    """Take a listening unix socket's place: its owner is reached under another name. For connections from now on."""
    behind = path.with_name("behind.sock")
    status = path.stat()
    path.rename(behind)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    os.chown(path, status.st_uid, status.st_gid)
    path.chmod(status.st_mode & 0o777)

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(behind))
        return connection

    return Recorder(listener, connect)


def record_tls(port: int, credential: Path | None = None) -> tuple[Recorder, int]:
    """End TLS in front of a gateway's port, as anybody on the way can: certificates are pinned to nobody.

    `credential`: where the caller's own certificate and key are found when it connects. Returns the port to call.
    """
    own = new_credential_key()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.set_alpn_protocols(["h2"])
    with tempfile.NamedTemporaryFile() as pem:
        pem.write(own.private_pem() + pem_of(own.gateway_certificate(GATEWAY_NAME, int(time.time()))))
        pem.flush()
        server.load_cert_chain(pem.name)

    def connect() -> socket.socket:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        client.set_alpn_protocols(["h2"])
        if credential is not None and credential.exists():
            client.load_cert_chain(credential)
        return client.wrap_socket(socket.create_connection(("127.0.0.1", port)))

    listener = socket.create_server(("127.0.0.1", 0))
    recorder = Recorder(listener, connect, lambda caller: server.wrap_socket(caller, server_side=True))
    return recorder, int(listener.getsockname()[1])
