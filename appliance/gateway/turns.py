"""One upload at a time for each silo; the newest wins, so that a silo whose connection hangs can go on at once.

Called by the federation port's handlers.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from protocol.errors import RefusalCode, refuse

_PATIENCE_SECONDS = 60.0


class Turns:
    """Who is uploading now."""

    def __init__(self, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._patience = patience_seconds
        self._running: dict[str, Callable[[], object]] = {}
        self._changed = threading.Condition()

    @contextmanager
    def take(self, silo: str, give_way: Callable[[], object]) -> Iterator[None]:
        """Wait for the silo's turn; whoever has it is asked to give way by its own `give_way`, which must not block.

        Raises `RefusedError` (busy) if the turn isn't free in time: an upload that is being judged is not cut short.
        """
        deadline = time.monotonic() + self._patience
        with self._changed:
            while silo in self._running:
                self._running[silo]()
                if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise refuse(
                        RefusalCode.BUSY,
                        expected="one upload at a time from a silo",
                        found="an earlier one that is still being judged",
                        remedy="try again in a moment",
                    )
            self._running[silo] = give_way
        try:
            yield
        finally:
            with self._changed:
                del self._running[silo]
                self._changed.notify_all()

    def end_all(self) -> None:
        """Ask everybody to give way."""
        with self._changed:
            for give_way in self._running.values():
                give_way()
