"""`strongroom.silo`: a silo's session, as the user's training loop holds it.

    with strongroom.silo("silo.toml") as silo:
        for round in silo.rounds():
            …
            round.submit(model)

It joins machine, courier and bodies: what the courier brings is done here, in the user's thread. `silo` is the
composition root; simulations build a `Silo` over a channel of their own.
"""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from torch import Tensor

from audit.entries import LogSuperseded, RoundPublished
from audit.store import StoreSource
from protocol.errors import RefusalCode, RefusedError
from protocol.fields import format_digest
from protocol.layout import Section
from protocol.metrics import parse_metrics
from protocol.sealing import BlobKind
from silo_client.announcement import Outcome
from silo_client.bodies import BodyFormat, body_limit_bytes, open_body, read_control, seal_initial, seal_update
from silo_client.courier import Courier, Task
from silo_client.events import Event, EventKind, Fact, Observer
from silo_client.kept_model import KeptModels
from silo_client.machine import Finish, Resume, SealedBody, SendInitial, SiloMachine, Train
from silo_client.model import state_dict_from
from silo_client.optimizer import TrainingError
from silo_client.rounds import Round, TrainedUpdate
from silo_client.state import SealedUpdate

# The attempt went on or away without this update; its outcome will say so, and the next round goes on.
_LATE = frozenset(
    {
        RefusalCode.ROUND_CLOSED,
        RefusalCode.WRONG_ROUND,
        RefusalCode.WRONG_BOOT,
        RefusalCode.ALREADY_COMPLETE,
        RefusalCode.WRONG_PARENT,
        RefusalCode.UPDATE_SIGNATURE,
    }
)
# How often an upload is sent whose bytes arrive changed.
_TRIES = 3
# The body is of a round that has ended since.
_GONE = frozenset({RefusalCode.WRONG_ROUND, RefusalCode.WRONG_SIZE, RefusalCode.BUSY})


class Silo:
    """One silo's session in one federation."""

    def __init__(
        self,
        *,
        machine: SiloMachine,
        courier: Courier,
        form: BodyFormat,
        observer: Observer,
        models: KeptModels,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """`models`: what this silo keeps of models, and may hand back; `release` is called at the end."""
        self.name = machine.silo
        self.agreement = machine.agreement
        self._machine = machine
        self._courier = courier
        self._form = form
        self._observer = observer
        self._models = models
        self._release = release
        self._round: Round | None = None
        self._finish: Finish | None = None
        self._unanswered = 0
        self._closed = False
        self._answered: bytes | None = None

    def __enter__(self) -> Self:
        self._courier.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session; calls after the first do nothing."""
        if self._closed:
            return
        self._closed = True
        if self._round is not None:
            self._round.close()
        try:
            self._courier.close()
        finally:
            self._release()

    @property
    def finished(self) -> bool:
        """Whether the federation has ended."""
        return self._finish is not None

    def rounds(self) -> Iterator[Round]:
        """The rounds to train, as they are announced, until the federation ends.

        Every round must be submitted before the next is asked for. Waits for the appliance as long as it takes. Raises
        `RefusedError` (among them `LogBrokenError`) if silo and appliance must not go on with each other.
        """
        while self._finish is None:
            self._require_submitted()
            found = self._do(self._courier.take())
            if found is not None:
                yield found

    def poll(self) -> Round | None:
        """The next round if one is announced, without waiting; for simulations, whose courier has no thread."""
        self._require_submitted()
        while self._finish is None and (task := self._courier.poll()) is not None:
            found = self._do(task)
            if found is not None:
                return found
        return None

    def final_state_dict(self) -> dict[str, Tensor]:
        """The federation's result, for `model.load_state_dict`; raises `TrainingError` before the end."""
        return state_dict_from(self._form.layout, self._final()[0])

    def final_metrics(self) -> dict[str, float]:
        """The last round's aggregated metrics; raises `TrainingError` before the end."""
        metadata = self._final()[1]
        return parse_metrics(metadata) if metadata else {}

    def _final(self) -> tuple[dict[Section, Tensor], bytes]:
        finish = self._finish
        if finish is None:
            raise TrainingError("expected the end of the federation, found rounds to come; iterate silo.rounds() first")
        model, metadata = self._fetch(finish.model, BlobKind.MODEL, finish.entry.model)
        self._models.keep(finish.entry.model, model)
        return model, metadata

    def _require_submitted(self) -> None:
        if self._round is not None and not self._round.submitted:
            raise TrainingError(
                f"round {self._round.number}: expected round.submit(model) before the next round, found none"
            )

    def _do(self, task: Task) -> Round | None:
        if isinstance(task, SendInitial):
            self._send_model(task.digest)
        elif isinstance(task, Resume):
            self._upload(task.update)
        elif isinstance(task, Finish):
            self._end(task)
        else:
            return self._begin(task)
        return None

    # Rounds

    def _begin(self, task: Train) -> Round | None:
        entry = task.entry
        if not self._machine.is_current(entry) or (self._round is not None and self._round.entry == entry):
            return None
        self._tell_outcome(task.outcome)
        if task.reset:
            self._tell(EventKind.CONTROL_RESET, "all control variates were reset; this silo's is zero again")
        try:
            model, metadata = self._fetch(task.model, BlobKind.MODEL, entry.model)
            control = None
            if task.control is not None and entry.control is not None:
                control = self._fetch(task.control, BlobKind.CONTROL, entry.control)[0][Section.PARAMETERS]
        except RefusedError as error:
            self._courier.raise_failure()
            if error.refusal.code in _GONE or not self._machine.is_current(entry):
                self._tell(EventKind.LATE, f"round {entry.round}: its model is gone before it was here: {error}")
                return None
            raise
        self._models.keep(entry.model, model)
        state = self._machine.state
        metrics = parse_metrics(metadata) if metadata else {}
        self._tell(
            EventKind.ROUND,
            f"round {entry.round} of {self.agreement.federation.rounds}, attempt {entry.attempt}",
            round=entry.round,
            attempt=entry.attempt,
            rounds=self.agreement.federation.rounds,
            local_steps=entry.local_steps,
            **{f"last_{name}": value for name, value in metrics.items()},
        )
        self._round = Round(
            entry=entry,
            agreement=self.agreement,
            layout=self._form.layout,
            model=model,
            control=control,
            own_control=read_control(state, self._form.layout) if state.has_control() else None,
            metrics=metrics,
            deliver=self._deliver,
            on_step=self._stepped,
        )
        return self._round

    def _fetch(self, body: SealedBody, kind: BlobKind, content: bytes) -> tuple[dict[Section, Tensor], bytes]:
        source = self._courier.download(body.name, body_limit_bytes(self._form.layout, kind))
        return open_body(source, body, kind, content, self._form)

    def _stepped(self, round_number: int, done: int, total: int) -> None:
        self._observer.step(round_number=round_number, done=done, total=total)

    def _deliver(self, trained: Round, update: TrainedUpdate) -> None:
        entry = trained.entry
        if self._machine.is_current(entry):
            sealed = seal_update(
                update.sections,
                update.control,
                update.metadata,
                opened=entry,
                state=self._machine.state,
                form=self._form,
            )
            if self._machine.hold(sealed):
                self._upload(sealed)
                return
        self._tell(
            EventKind.LATE,
            f"round {entry.round}: attempt {entry.attempt} ended before the update was ready; nothing was sent",
            round=entry.round,
            attempt=entry.attempt,
        )

    def _upload(self, update: SealedUpdate) -> None:
        """Send the stored bytes, and those only, until the appliance has answered or the attempt is over."""
        if self._answered == update.upload_id:
            return
        state = self._machine.state
        facts: dict[str, Fact] = {"round": update.round, "attempt": update.attempt}
        for tries_left in reversed(range(_TRIES)):
            try:
                answer = self._courier.upload(update.upload_id, state.open_pending, lambda: state.pending == update)
                break
            except RefusedError as error:
                self._courier.raise_failure()
                if error.refusal.code is RefusalCode.UPDATE_SIGNATURE and tries_left:
                    # The bytes were changed on the way or in the spool; ours are as they were signed.
                    continue
                self._answered = update.upload_id
                self._not_taken(error, update)
                return
        if answer is None:
            return
        self._answered = update.upload_id
        self._machine.accepted(update, answer)
        self._tell(EventKind.SUBMITTED, f"round {update.round}: the update was accepted", **facts)

    def _not_taken(self, error: RefusedError, update: SealedUpdate) -> None:
        code = error.refusal.code
        facts: dict[str, Fact] = {"round": update.round, "attempt": update.attempt, "code": str(code)}
        if code is RefusalCode.ALREADY_COMPLETE:
            self._tell(EventKind.SUBMITTED, f"round {update.round}: the appliance has the update already", **facts)
        elif code in _LATE:
            self._tell(EventKind.LATE, f"round {update.round}: the update won't be used: {error}", **facts)
        else:
            raise error

    def _tell_outcome(self, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        entry = outcome.entry
        facts: dict[str, Fact] = {"round": entry.round, "attempt": entry.attempt, "used": outcome.used}
        if isinstance(entry, RoundPublished):
            text = f"round {entry.round} was published, {'with' if outcome.used else 'without'} this silo's update"
        else:
            text = f"attempt {entry.attempt} of round {entry.round} was abandoned: {entry.reason}"
            facts["reason"] = entry.reason
        if outcome.foreign:
            text += "; it used another update in this silo's name: did the silo lose its state, or its identity key?"
            facts["foreign"] = True
        self._tell(EventKind.OUTCOME, text, **facts)

    def _end(self, task: Finish) -> None:
        if self._finish is None:
            self._tell_outcome(task.outcome)
            facts: dict[str, Fact] = {"rounds": task.entry.rounds, "model": format_digest(task.entry.model)}
            text = f"the federation has ended after {task.entry.rounds} rounds"
            if isinstance(task.entry, LogSuperseded):
                facts["successor"] = format_digest(task.entry.successor)
                text += f"; it goes on under agreement {facts['successor']}"
            self._tell(EventKind.FINISHED, text, **facts)
        self._finish = task

    # A model that the appliance asks for: the initial one, or the one that it lost with its keys

    def _send_model(self, content: bytes) -> None:
        model = self._models.find(content)
        if model is None:
            self._tell(EventKind.INITIAL_MODEL, self._no_model(content), sent=False)
            self._courier.rejoin(self._unanswered)
            self._unanswered += 1
            return
        state, enrolled = self._machine.state, self._machine.enrolled
        upload_id, name = seal_initial(
            model,
            content=content,
            boot_id=enrolled.boot_id,
            recipient=enrolled.keys.sealing_key,
            state=state,
            form=self._form,
        )

        def stored() -> StoreSource:
            return state.files.open(state.path(name))

        try:
            self._courier.upload(upload_id, stored, lambda: self._machine.enrolled.boot_id == enrolled.boot_id)
            which = "initial model" if self._is_agreed(content) else "model that the appliance had lost"
            self._tell(EventKind.INITIAL_MODEL, f"the {which} was accepted", sent=True)
        except RefusedError as error:
            if error.refusal.code not in _LATE:
                raise
        finally:
            state.files.delete(state.path(name))

    def _is_agreed(self, content: bytes) -> bool:
        return content == self.agreement.model.initial

    def _no_model(self, content: bytes) -> str:
        if self._is_agreed(content):
            return (
                "the appliance asks for the initial model, and silo.toml names none (initial_model); waiting for "
                "another silo to send it"
            )
        return (
            f"the appliance asks for the model {format_digest(content)}, which it lost and this silo doesn't hold; "
            "waiting for another silo to send it"
        )

    def _tell(self, kind: EventKind, text: str, **facts: Fact) -> None:
        self._observer.event(Event(kind=kind, text=text, facts=facts))
