"""The one thread that lets the enclave's core do what is due: deadlines, opening, merging.

Called by the composition root, which gives `wake` to the core.
"""

import threading
from collections.abc import Callable
from typing import NoReturn, Protocol

_SHORTEST_WAIT_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 60.0


class Due(Protocol):
    """What has something to do now and then."""

    def tick(self) -> None:
        """Do everything that is due."""
        ...

    def next_due(self) -> int | None:
        """When there is something to do at the latest, in unix seconds."""
        ...


class Ticker:
    """Calls `tick` when it is due, and soon after every `wake`."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._woken = threading.Event()

    def wake(self) -> None:
        """Ask for a tick soon; callable from any thread, also from within a tick."""
        self._woken.set()

    def run(self, core: Due) -> NoReturn:
        """Tick for ever. What `tick` raises ends it, and is the caller's to judge."""
        while True:
            self._woken.clear()
            core.tick()
            self._woken.wait(self._pause_seconds(core.next_due()))

    def _pause_seconds(self, due: int | None) -> float:
        if due is None:
            return _LONGEST_WAIT_SECONDS
        # The clock is the host's and may jump: never sleep for long, never spin.
        return min(max(due - self._clock(), _SHORTEST_WAIT_SECONDS), _LONGEST_WAIT_SECONDS)
