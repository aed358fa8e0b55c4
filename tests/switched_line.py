"""A silo's way to the appliance: two ports that lead, byte by byte, to one gateway and later to another."""

import socket
import threading
from contextlib import suppress

from process_federation import Ports

_HOST = "127.0.0.1"


class Line:
    """One silo's way; it leads nowhere yet."""

    def __init__(self) -> None:
        self._enrolment, self._federation = _Switch(), _Switch()
        self.ports = Ports(enrolment=self._enrolment.port, federation=self._federation.port)

    def lead_to(self, ports: Ports | None) -> None:
        """Cut what is open; from now on the silo reaches the gateway at these ports, or nobody."""
        self._enrolment.lead_to(None if ports is None else ports.enrolment)
        self._federation.lead_to(None if ports is None else ports.federation)

    def close(self) -> None:
        """Cut it for good."""
        self._enrolment.close()
        self._federation.close()


class _Switch:
    """A port that leads to another one."""

    def __init__(self) -> None:
        self._listener = socket.create_server((_HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._target: int | None = None
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, port: int | None) -> None:
        with self._lock:
            self._target, cut, self._open = port, self._open, set()
        for end in cut:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.lead_to(None)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(caller,), daemon=True).start()

    def _connect(self, caller: socket.socket) -> None:
        with self._lock:
            target = self._target
        try:
            called = socket.create_connection((_HOST, target or 0))
        except OSError:
            caller.close()
            return
        with self._lock:
            stale = target != self._target
            self._open |= {caller, called}
        if stale:
            self.lead_to(self._target)
        back = threading.Thread(target=_pass_on, args=(called, caller), daemon=True)
        back.start()
        _pass_on(caller, called)
        back.join()
        for end in (caller, called):
            end.close()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
