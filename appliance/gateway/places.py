"""How many calls of one silo may be under way at a time, so that none of them can take the others' threads.

Called by the federation port's handlers.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from protocol.errors import RefusalCode, refuse


class Places:
    """At most `limit` of something for each silo; `what` names it in the refusal."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    @contextmanager
    def take(self, silo: str) -> Iterator[None]:
        """Have a place for as long as it takes; raises `RefusedError` (busy) where the silo has them all."""
        with self._lock:
            if self._taken[silo] >= self._limit:
                raise refuse(
                    RefusalCode.BUSY,
                    expected=f"at most {self._limit} {self._what} at a time from a silo",
                    found="one more",
                    remedy="wait for the others",
                )
            self._taken[silo] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[silo] -= 1
