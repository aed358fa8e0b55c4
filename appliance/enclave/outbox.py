"""What the enclave has to say to silos and further witnesses, on its way to the one gateway that is connected.

`send` never blocks, whatever the gateway does: one that doesn't take its messages is dropped, and connects again.
Called by the enclave core (`send`, `ask`) and by `service.py` (`attach`).
"""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

_LIMIT_BYTES = 2**26


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message (`protocol.session`) to a silo or to a witness; exactly one of them is named."""

    silo: str | None
    witness: str | None
    message: bytes


class Outbox:
    """The queue, and who may take from it: the gateway that attached last."""

    def __init__(self, limit_bytes: int = _LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._changed = threading.Condition()
        self._waiting: deque[Outgoing] = deque()
        self._waiting_bytes = 0
        self._generation = 0
        self._attached = False

    def send(self, silo: str, message: bytes) -> None:
        """Queue a message; dropped while no gateway is there, as every silo has then left."""
        self._queue(Outgoing(silo=silo, witness=None, message=message))

    def ask(self, witness: str, message: bytes) -> None:
        """Queue a message to a further witness, as `send` does."""
        self._queue(Outgoing(silo=None, witness=witness, message=message))

    def _queue(self, outgoing: Outgoing) -> None:
        with self._changed:
            if not self._attached:
                return
            self._waiting.append(outgoing)
            self._waiting_bytes += len(outgoing.message)
            if self._waiting_bytes > self._limit:
                self._detach()
            self._changed.notify_all()

    def attach(self) -> int:
        """Begin to queue for a new gateway, in place of the last one. Returns its number, for `messages`."""
        with self._changed:
            self._detach()
            self._attached = True
            self._changed.notify_all()
            return self._generation

    def detach(self, generation: int) -> bool:
        """This gateway is gone; True unless another one has taken its place."""
        with self._changed:
            if self._attached and generation != self._generation:
                return False
            if self._attached:
                self._detach()
                self._changed.notify_all()
            return True

    def messages(self, generation: int) -> Iterator[Outgoing]:
        """This gateway's messages in order; blocks, and ends when it is no longer the one."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or not self._is_current(generation))
                if not self._is_current(generation):
                    return
                outgoing = self._waiting.popleft()
                self._waiting_bytes -= len(outgoing.message)
            yield outgoing

    def _is_current(self, generation: int) -> bool:
        return self._attached and generation == self._generation

    def _detach(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        self._generation += 1
        self._attached = False
