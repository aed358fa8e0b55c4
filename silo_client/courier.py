"""The courier keeps one silo in touch with its appliance: enrols, joins, cosigns, renews, and comes back after a loss.

It moves messages between a `Channel` and the `SiloMachine` and decides nothing about their content. In production a
thread of its own runs it, so that the silo cosigns and renews while the user's code trains; a simulation pumps it.

    a call is lost            try again after a pause; without one answer in between, enrol again first
    not admitted, expired     enrol again
    the appliance is busy     try again after a pause
    any other refusal         stop, and raise it in the user's thread
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias, TypeVar

from audit.store import StoreSource
from protocol.errors import ProtocolError, RefusalCode, RefusedError
from protocol.sealing import ByteSource
from silo_client.channel import Channel, ChannelLostError, Credential
from silo_client.events import Event, EventKind, Observer
from silo_client.machine import Decline, Finish, Ignore, Resume, Send, SendInitial, SiloMachine, Train

Task: TypeAlias = Train | Resume | SendInitial | Finish
_Result = TypeVar("_Result")

_ENROL_AGAIN = frozenset(
    {
        RefusalCode.NOT_ADMITTED,
        RefusalCode.CREDENTIAL_EXPIRED,
        RefusalCode.WRONG_BOOT,
        RefusalCode.STALE_NONCE,
    }
)
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 10.0
# Doubled, silos would be away for twice as long as the appliance.
_PAUSE_GROWTH = 1.4
_JOIN_THREAD_SECONDS = 10.0
_FAREWELL_SECONDS = 1.0
_OUT_OF_REACH = "the appliance is out of reach, trying again"


class ClosedError(ProtocolError):
    """The silo's session was closed."""


class Courier:
    """One silo's connection. `background`: a thread of its own runs it from `start` on; otherwise `pump` does."""

    def __init__(
        self,
        *,
        machine: SiloMachine,
        channel: Channel,
        observer: Observer,
        clock: Callable[[], int],
        background: bool,
    ) -> None:
        self._machine = machine
        self._channel = channel
        self._observer = observer
        self._clock = clock
        self._credential: Credential | None = None
        self._connected = False
        self._losses = 0
        self._waiting = False
        self._inbox: deque[Task] = deque()
        self._changed = threading.Condition()
        self._enrolling = threading.RLock()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="strongroom-silo", daemon=True) if background else None

    # For the user's thread

    def start(self) -> None:
        """Begin, if a thread of its own runs it."""
        if self._thread is not None:
            self._thread.start()

    def close(self) -> None:
        """End the session and its thread."""
        self._stop.set()
        self._channel.close()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(_JOIN_THREAD_SECONDS)

    def take(self) -> Task:
        """Wait for the next thing to do; raises what stopped the courier."""
        while True:
            with self._changed:
                if self._inbox:
                    return self._inbox.popleft()
                self.raise_failure()
                if self._thread is not None:
                    self._changed.wait()
                    continue
            self.pump(None)

    def poll(self) -> Task | None:
        """The next thing to do if there is one, without waiting; for couriers without a thread."""
        while not self._inbox and self.pump(0):
            pass
        return self._inbox.popleft() if self._inbox else None

    def upload(self, upload_id: bytes, source: Callable[[], StoreSource], needed: Callable[[], bool]) -> bytes | None:
        """Send a sealed body until the appliance has answered, over as many connections as it takes.

        `source` is opened once for each. Returns the answer, or None once the body is no longer `needed`. Raises
        `RefusedError`.
        """
        pauses = 0
        while needed():
            try:
                return self._channel.upload(upload_id, source())
            except ChannelLostError as error:
                self.raise_failure()
                self._say_waiting(_OUT_OF_REACH, error)
            except RefusedError as error:
                if error.refusal.code in (RefusalCode.NOT_ADMITTED, RefusalCode.CREDENTIAL_EXPIRED):
                    self._persist(self._enrol)
                elif error.refusal.code is not RefusalCode.BUSY:
                    raise
            self._idle(_pause_seconds(pauses))
            pauses += 1
        return None

    def download(self, name: str, limit_bytes: int) -> ByteSource:
        """Fetch a sealed body, over as many connections as it takes."""
        return self._persist(lambda: self._channel.download(name, limit_bytes=limit_bytes))

    def raise_failure(self) -> None:
        """Raise what stopped the courier, if it has stopped: that is no answer to whatever was under way."""
        if self._failure is not None:
            raise self._failure
        if self._stop.is_set():
            raise ClosedError("the session was closed")

    # One message at a time

    def pump(self, timeout_seconds: float | None) -> bool:
        """Connect if need be, and handle one message; False if none came in time."""
        try:
            self._connect()
            message = self._channel.receive(self._patience(timeout_seconds))
            if message is None:
                return False
            self._losses, self._waiting = 0, False
            self._handle(message)
        except ChannelLostError as error:
            self._lost(error)
        except RefusedError as error:
            if error.refusal.code not in (*_ENROL_AGAIN, RefusalCode.BUSY):
                raise
            # A session ends after any refusal.
            self._connected = False
            self._say_waiting("the session has ended, beginning another", error)
            if error.refusal.code in _ENROL_AGAIN:
                self._credential = None
            self._losses += 1
            self._sleep(_pause_seconds(self._losses))
        return True

    def enrol(self) -> None:
        """Enrol once, without a session; raises `ChannelLostError` and `RefusedError`."""
        self._enrol()

    def rejoin(self, times: int) -> None:
        """Leave the session and come back, so that the appliance asks somebody else; later each of the `times`."""
        self._sleep(_pause_seconds(times))
        # Nobody is out of reach.
        self._waiting = True
        self._channel.close()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.pump(None)
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()
            # Whoever trains hears of it when he comes back. Until then nothing more is sent, and nobody counts on us.
            self._channel.close()

    def _handle(self, message: bytes) -> None:
        step = self._machine.handle(message)
        if isinstance(step, Send):
            self._channel.send(step.message)
        elif isinstance(step, Decline):
            self._channel.send(step.message)
            # Give the reason time to leave before the session ends with the error.
            with suppress(ProtocolError):
                self._channel.receive(_FAREWELL_SECONDS)
            raise step.error
        elif not isinstance(step, Ignore):
            self._put(step)

    def _put(self, task: Task) -> None:
        with self._changed:
            if isinstance(task, Train | Finish):
                # Only the newest round counts; whoever trains on an older one finds out when he submits.
                self._inbox = deque(item for item in self._inbox if not isinstance(item, Train | Resume))
            if task not in self._inbox:
                self._inbox.append(task)
            self._changed.notify_all()

    # The connection

    def _connect(self) -> None:
        if self._credential is None or self._clock() >= self._credential.renew_at:
            self._enrol()
        if not self._connected and self._credential is not None:
            self._channel.connect(self._credential)
            if self._stop.is_set():
                # `close` may have come before there was anything to close.
                self._channel.close()
                raise ClosedError("the session was closed")
            self._channel.send(self._machine.join())
            self._connected = True

    def _enrol(self) -> None:
        """Enrol, the first time or again. An open session goes on: the admission is what counts."""
        with self._enrolling:
            welcome = self._channel.hello(self._machine.hello())
            self._catch_up(welcome)
            admitted = self._channel.enrol(self._machine.welcome(welcome))
            enrolled = self._machine.admitted(admitted)
            self._credential = enrolled.credential
        boot = enrolled.boot_id.hex()[:16]
        self._observer.event(
            Event(
                kind=EventKind.ENROLLED,
                text=f"enrolled with boot {boot}…, until {enrolled.credential.expires} (unix seconds)",
                facts={"boot_id": enrolled.boot_id.hex(), "expires": enrolled.credential.expires},
            )
        )

    def _catch_up(self, welcome: bytes) -> None:
        """Follow the log to the key that it has now, if this silo knows another."""
        while (question := self._machine.catchup(welcome)) is not None:
            try:
                answer = self._channel.hello(question)
            except RefusedError as error:
                if error.refusal.code is RefusalCode.BUSY:
                    raise
                # No way leads there: `welcome` says what that means.
                return
            self._machine.caught_up(welcome, answer)

    def _lost(self, error: ChannelLostError) -> None:
        if self._stop.is_set():
            raise ClosedError("the session was closed") from error
        self._connected = False
        if self._losses:
            # Twice without a message in between: the appliance may have restarted and know us no more.
            self._credential = None
        self._say_waiting(_OUT_OF_REACH, error)
        self._sleep(_pause_seconds(self._losses))
        self._losses += 1

    def _say_waiting(self, what: str, why: ProtocolError) -> None:
        """Once, until a message comes again: whoever watches a silo that gets nowhere must learn why."""
        if not self._waiting:
            self._waiting = True
            self._observer.event(Event(kind=EventKind.WAITING, text=f"{what} ({why})"))

    def _patience(self, timeout_seconds: float | None) -> float | None:
        """How long to wait for a message: at most until the admission is to be renewed."""
        if self._credential is None:
            return timeout_seconds
        left = max(self._credential.renew_at - self._clock(), 0) + 1.0
        return left if timeout_seconds is None else min(left, timeout_seconds)

    def _persist(self, call: Callable[[], _Result]) -> _Result:
        pauses = 0
        while True:
            try:
                return call()
            except ChannelLostError as error:
                self.raise_failure()
                self._say_waiting(_OUT_OF_REACH, error)
                self._idle(_pause_seconds(pauses))
                pauses += 1

    def _idle(self, seconds: float) -> None:
        """Let the connection recover: in its own thread, or here."""
        if self._thread is None:
            self.pump(seconds)
            return
        with self._changed:
            self.raise_failure()
        self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise ClosedError("the session was closed")


def _pause_seconds(failures: int) -> float:
    return float(min(_FIRST_PAUSE_SECONDS * _PAUSE_GROWTH ** min(failures, 16), _LONGEST_PAUSE_SECONDS))
