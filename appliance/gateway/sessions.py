"""The silos' open sessions: at most one each, a bounded queue of messages for each, pushed without polling.

Called by the federation port's handlers and, for what the enclave sends, by the link to it. Trusts the TLS stack for
which silo it talks to, which only sheds load: the enclave checks what comes of it.

Order matters to the enclave: of one silo it hears the old session's messages, that the silo left, and then the new
session's. `Sessions.begin` and `Sessions.relay` hold the silo's own lock while they call the enclave.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator

from protocol.errors import RefusalCode
from protocol.wire import strongroom_pb2 as pb

_QUEUE_MESSAGES = 64

REPLACED = pb.Refusal(
    code=RefusalCode.BUSY,
    expected="one session a silo",
    found="a newer session of the same silo",
    remedy="let one process take part for a silo",
)
TOO_SLOW = pb.Refusal(
    code=RefusalCode.BUSY,
    expected=f"a silo that takes its messages, at most {_QUEUE_MESSAGES} waiting",
    found="more",
    remedy="connect again",
)
ENCLAVE_LOST = pb.Refusal(
    code=RefusalCode.NOT_ADMITTED,
    expected="the boot of the enclave that admitted the silo",
    found="that the enclave stopped",
    remedy="enrol again; clients do so by themselves",
)


class SiloSession:
    """One silo's stream. `messages` is what its handler sends; it ends when somebody ends the session."""

    def __init__(self, silo: str) -> None:
        self.silo = silo
        self.refusal: pb.Refusal | None = None
        self.accepting = False
        self._waiting: deque[bytes] = deque()
        self._ended = False
        self._changed = threading.Condition()

    def push(self, message: bytes) -> None:
        """Queue a message for the silo; one that doesn't take its messages loses its session."""
        with self._changed:
            # What the enclave sent before this session joined was for the one before it.
            if self._ended or not self.accepting:
                return
            self._waiting.append(message)
            self._changed.notify()
            if len(self._waiting) > _QUEUE_MESSAGES:
                self._waiting.clear()
                self._end(TOO_SLOW)

    def end(self, refusal: pb.Refusal | None = None) -> None:
        """No further messages; those that wait are still sent. The first reason given stands."""
        with self._changed:
            self._end(refusal)

    def _end(self, refusal: pb.Refusal | None) -> None:
        if not self._ended:
            self._ended, self.refusal = True, refusal
            self._changed.notify()

    def messages(self) -> Iterator[bytes]:
        """The messages in order, as they come; blocks until the session has ended."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    return
                message = self._waiting.popleft()
            yield message


class Sessions:
    """All open sessions. `left(silo)` tells the enclave that a silo's session is over."""

    def __init__(self, left: Callable[[str], None]) -> None:
        self._left = left
        self._lock = threading.Lock()
        self._current: dict[str, SiloSession] = {}
        self._orders: dict[str, threading.Lock] = {}

    def begin(self, silo: str) -> SiloSession:
        """Open a session; one that the silo has already ends with `REPLACED`."""
        with self._order(silo):
            session = SiloSession(silo)
            with self._lock:
                older = self._current.get(silo)
                self._current[silo] = session
            if older is not None:
                older.end(REPLACED)
                self._left(silo)
            return session

    def relay(self, session: SiloSession, to_enclave: Callable[[], None]) -> None:
        """Run `to_enclave` unless the session is no longer the silo's."""
        with self._order(session.silo):
            if self._is_current(session):
                session.accepting = True
                to_enclave()

    def finish(self, session: SiloSession) -> None:
        """The stream is over; the enclave hears of it unless a newer session stands in its place."""
        session.end()
        with self._order(session.silo):
            with self._lock:
                if self._current.get(session.silo) is not session:
                    return
                del self._current[session.silo]
            self._left(session.silo)

    def deliver(self, silo: str, message: bytes) -> None:
        """Queue the enclave's message; dropped if the silo has gone."""
        with self._lock:
            session = self._current.get(silo)
        if session is not None:
            session.push(message)

    def end_all(self, refusal: pb.Refusal) -> None:
        """End every session for one reason; the enclave isn't told."""
        with self._lock:
            ended, self._current = self._current, {}
        for session in ended.values():
            session.end(refusal)

    def _is_current(self, session: SiloSession) -> bool:
        with self._lock:
            return self._current.get(session.silo) is session

    def _order(self, silo: str) -> threading.Lock:
        with self._lock:
            return self._orders.setdefault(silo, threading.Lock())
