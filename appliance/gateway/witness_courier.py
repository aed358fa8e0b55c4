"""The couriers: one thread a further witness, which carries the enclave's requests there and the answers back.

    enclave                              courier                                witness
       ◄── Join(head it is said to know) ──┤
       ├── CosignRequest ─────────────────►├── POST add-checkpoint ────────────────►
       ◄── Cosigned ───────────────────────┤◄── 200 ────────────────────────────────┤
       ◄── Join(head n) ───────────────────┤◄── 409 n ──────────────────────────────┤   (and asked again from there)
       ◄── Declined ───────────────────────┤◄── 409 at the same size ───────────────┤   (another root: a fork)

A witness that is away, slow or talks nonsense keeps its own courier busy and nobody else: what it costs is its vote.
Only the newest request counts. Trusts nothing that it carries; the enclave verifies every cosignature.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.gateway.link import EnclaveAwayError, EnclaveLink
from appliance.gateway.witness_http import WitnessAwayError
from audit.note import Checkpoint, NoteSignature, VerifierKey
from audit.witnessing.answer import Answer, Conflict, WitnessRefusedError, read_answer
from audit.witnessing.request import AddCheckpoint
from protocol.agreement_toml import printable
from protocol.errors import MalformedError, RefusalCode
from protocol.session import Cosigned, CosignRequest, Declined, Join

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 15.0
_CONFLICTS = 2


class _FailedError(Exception):
    """This time it did not work; why, in a line for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One witness: its key, and how to post a request's body to it (raises `WitnessAwayError`)."""

    name: str
    key: VerifierKey
    post: Callable[[bytes], Answer]


class WitnessCourier:
    """One witness's courier. `run` is its thread; the other methods may be called from any."""

    def __init__(self, *, route: Route, link: EnclaveLink, event: Callable[[str], None]) -> None:
        """`event` takes a line for the operator, said when something changes and not again."""
        self._route = route
        self._link = link
        self._event = event
        self._changed = threading.Condition()
        self._request: bytes | None = None
        self._up = self._joined = self._closing = False
        self._head = 0
        self._pause = 0.0
        self._conflicts = 0
        self._said = ""

    def enclave_up(self) -> None:
        """A boot of the enclave listens: tell it what the witness knows."""
        with self._changed:
            self._up, self._joined, self._request = True, False, None
            self._changed.notify_all()

    def enclave_down(self) -> None:
        """It is gone, and what it asked for with it."""
        with self._changed:
            self._up, self._request = False, None

    def deliver(self, message: bytes) -> None:
        """A request by the enclave, in place of any before it."""
        with self._changed:
            self._request = message
            self._changed.notify_all()

    def close(self) -> None:
        """End `run` as soon as it waits."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def run(self) -> None:
        """Carry, until closed."""
        while self._wait():
            try:
                self._step()
            except EnclaveAwayError:
                self.enclave_down()
            except _FailedError as error:
                self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
                self._say(f"no-cosignature witness={self._route.name} because={printable(str(error))}")
            else:
                self._pause = 0.0

    def _wait(self) -> bool:
        """Until there is something to do; False when closed. A pause is kept, whatever arrives meanwhile."""
        with self._changed:
            if self._pause:
                self._changed.wait_for(lambda: self._closing, timeout=self._pause)
            self._changed.wait_for(
                lambda: self._closing or (self._up and (not self._joined or self._request is not None))
            )
            return not self._closing

    def _step(self) -> None:
        with self._changed:
            joined, request = self._joined, self._request
        if not joined:
            self._join()
        elif request is not None:
            self._carry(request)

    def _join(self) -> None:
        with self._changed:
            self._joined = True
        self._tell(Join(head=self._head, pending=None).encode())

    def _carry(self, message: bytes) -> None:
        try:
            request = CosignRequest.parse(message)
            checkpoint = Checkpoint.parse(request.checkpoint.encode())
            old = request.consistency.size
            body = AddCheckpoint(old_size=old, proof=request.consistency.hashes, checkpoint=checkpoint).encode()
            answer = read_answer(self._route.post(body), self._route.key)
        except (WitnessAwayError, WitnessRefusedError, MalformedError) as error:
            raise _FailedError(str(error)) from error
        if isinstance(answer, NoteSignature):
            self._tell(Cosigned(size=checkpoint.size, line=answer.encode()).encode())
            self._head, self._conflicts = checkpoint.size, 0
            self._done(message)
            if self._said:
                self._event(f"cosigns-again witness={self._route.name}")
                self._said = ""
        elif answer.size == old == checkpoint.size:
            self._tell(_fork(checkpoint.size))
            raise _FailedError(f"it has cosigned another tree of {checkpoint.size} entries: a fork")
        else:
            self._conflict(answer, old)

    def _conflict(self, answer: Conflict, old: int) -> None:
        """The witness is elsewhere than thought: ask the enclave for a proof from there."""
        self._conflicts += 1
        if answer.size == old or self._conflicts > _CONFLICTS:
            self._conflicts = 0
            raise _FailedError(
                f"it asks for a proof from {answer.size} entries and, given one from {old}, does not take it"
            )
        self._head = answer.size
        with self._changed:
            self._joined, self._request = False, None

    def _tell(self, message: bytes) -> None:
        """Say something to the enclave; raises `_FailedError` with its refusal, after which all begins anew."""
        reply = self._link.witnessed(self._route.name, message)
        if reply.WhichOneof("result") == "refusal":
            self._head = 0
            with self._changed:
                self._joined, self._request = False, None
            raise _FailedError(f"the enclave refuses its answer: {reply.refusal.code}: found {reply.refusal.found}")

    def _done(self, message: bytes) -> None:
        with self._changed:
            if self._request is message:
                self._request = None

    def _say(self, line: str) -> None:
        if line != self._said:
            self._event(line)
            self._said = line


class WitnessCouriers:
    """All of them, by the witnesses' names."""

    def __init__(self, routes: Mapping[str, Route], link: EnclaveLink, event: Callable[[str], None]) -> None:
        self._couriers = {name: WitnessCourier(route=route, link=link, event=event) for name, route in routes.items()}

    def start(self) -> None:
        """A thread for each."""
        for name, courier in self._couriers.items():
            threading.Thread(target=courier.run, name=f"witness-{name}", daemon=True).start()

    def enclave_up(self) -> None:
        for courier in self._couriers.values():
            courier.enclave_up()

    def enclave_down(self) -> None:
        for courier in self._couriers.values():
            courier.enclave_down()

    def deliver(self, witness: str, message: bytes) -> None:
        """The enclave's request; dropped where nobody knows the way."""
        if (courier := self._couriers.get(witness)) is not None:
            courier.deliver(message)

    def close(self) -> None:
        for courier in self._couriers.values():
            courier.close()


def _fork(size: int) -> bytes:
    reason = "the witness has cosigned another tree of this size"
    return Declined(size=size, code=RefusalCode.LOG_FORKED, reason=reason).encode()
