"""The enclave as a state machine: messages in, entries and messages out. No sockets, no files, no clock of its own.

    IDLE ── open ──► COLLECTING (cosigned ─ quorum ─► announced) ── close ──► COMMITTED ── merge ──► IDLE | CLOSED
      ▲                    │ below the minimum                          │ bytes changed
      └────────────────────┴────────────────────────────────────────────┘ round.abandoned

The phase is the log's (`audit.phases.Phase`); what is in memory beside it dies with the boot: admissions, sessions,
votes, the attempt's round key and its opened updates. Every method may be called from any thread; one lock guards all
state, and the long work (opening an upload, merging) runs outside it. A `LedgerFailure` is fatal to the process.
"""

import threading
from dataclasses import dataclass, replace

from appliance.enclave.admission import AdmissionDesk
from appliance.enclave.announcer import Announcer
from appliance.enclave.attempt import Attempt
from appliance.enclave.bodies import Bodies
from appliance.enclave.boot import Boot
from appliance.enclave.closing import Closing, Result
from appliance.enclave.key_history import changes_since
from appliance.enclave.ledger import Ledger
from appliance.enclave.ports import Ports
from appliance.enclave.release import Release
from appliance.enclave.sealed_state import EnclaveState
from appliance.enclave.uploads import InitialModel, Uploads, UploadTask, Verdict, read_header
from attestation.collect.errors import CollectError
from audit.entries import ControlReset, LogClosed, LogRecovered, RoundAbandoned, RoundCommitted, RoundOpened
from audit.phases import BELOW_MINIMUM_COHORT, Phase
from protocol.agreement import Agreement
from protocol.errors import RefusalCode, RefusedError, refuse
from protocol.key_history import is_catchup
from protocol.keys import SEALING_SEED_BYTES, SealingKey
from protocol.layout import Layout
from protocol.recovery import is_ask, not_recovering
from protocol.sealing import ByteSource
from protocol.session import Cosigned, Declined, Join, LostModel, UploadAccepted, WantInitial, parse_from_silo


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What the gateway, and through it the operator, may know."""

    agreement: bytes
    origin: str
    boot_id: bytes
    ca_certificate: bytes
    simulated: bool
    phase: str
    round: int
    attempt: int
    log_size: int
    admitted: tuple[str, ...]
    joined: tuple[str, ...]
    waiting_for: tuple[str, ...]


class Enclave:
    """One boot of the enclave; made by `appliance.enclave.startup.start`."""

    def __init__(
        self,
        *,
        agreement: Agreement,
        layout: Layout,
        boot: Boot,
        ledger: Ledger,
        bodies: Bodies,
        closing: Closing,
        state: EnclaveState,
        ports: Ports,
    ) -> None:
        self._lock = threading.RLock()
        self._agreement = agreement
        self._boot = boot
        self._ledger = ledger
        self._state = state
        self._ports = ports
        self._desk = AdmissionDesk(agreement=agreement, boot=boot, ledger=ledger, random=ports.random)
        self._release = Release(
            agreement=agreement,
            desk=self._desk,
            announcer=Announcer(boot=boot, ledger=ledger),
            ledger=ledger,
            ports=ports,
        )
        self._uploads = Uploads(agreement=agreement, layout=layout, boot=boot, bodies=bodies, ledger=ledger)
        self._closing = closing
        self._attempt: Attempt | None = None
        self._initial_from: str | None = None
        self._initial_due = 0
        self._initial_asked: set[str] = set()
        self._open_at = ledger.now() + agreement.federation.enrolment_deadline_seconds

    # What the gateway passes on

    def hello(self, message: bytes) -> bytes:
        """Answer a silo's `Hello`, or its `Catchup`; raises `RefusedError`."""
        if is_ask(message):
            raise not_recovering()
        if is_catchup(message):
            catchup = self._desk.catchup(message)
            with self._lock:
                return changes_since(self._ledger, catchup).encode()
        try:
            hello, evidence = self._desk.asked(message)
        except CollectError as error:
            self._ports.event(f"evidence-failed {error}")
            raise refuse(
                RefusalCode.BUSY,
                expected="fresh evidence of the appliance's TEE",
                found="a TEE that made none",
                remedy="try again later; the appliance's log says why",
            ) from error
        with self._lock:
            return self._desk.welcome(hello, evidence)

    def enrol(self, sealed: bytes) -> bytes:
        """Judge an enrolment request; raises `RefusedError`."""
        request = self._desk.opened(sealed)
        with self._lock:
            return self._desk.enrol(request)

    def receive(self, silo: str, message: bytes) -> None:
        """Take a session's message from an admitted silo; raises `RefusedError`, `MalformedError`."""
        parsed = parse_from_silo(message)
        with self._lock:
            self._desk.current(silo, self._ledger.now())
            if isinstance(parsed, Join):
                self._join(silo, parsed)
            elif isinstance(parsed, Cosigned):
                self._release.count(silo, parsed)
            elif isinstance(parsed, Declined):
                self._ports.event(f"cosignature-declined silo={silo} size={parsed.size} code={parsed.code}")
        self._ports.wake()

    def left(self, silo: str) -> None:
        """A silo's session ended."""
        with self._lock:
            self._release.leave(silo)
            self._ask_another(silo)
        self._ports.wake()

    def witnessed(self, witness: str, message: bytes) -> None:
        """Take what a further witness answered; raises `RefusedError`, `MalformedError`.

        Nothing here says that it was the witness, but for its cosignature: all else can only deny service.
        """
        parsed = parse_from_silo(message)
        with self._lock:
            name = self._agreement.witness(witness).name
            if isinstance(parsed, Join):
                self._join_witness(name, parsed.head)
            elif isinstance(parsed, Cosigned):
                self._release.count_witness(name, parsed)
            elif isinstance(parsed, Declined):
                declined = f"witness={name} size={parsed.size} code={parsed.code}"
                self._ports.event(f"cosignature-declined {declined}")
        self._ports.wake()

    def witnesses_left(self) -> None:
        """Nobody carries requests to the witnesses any more."""
        with self._lock:
            self._release.leave_witnesses()

    def complete(self, silo: str, source: ByteSource) -> bytes:
        """Judge a complete upload; returns the encoded `UploadAccepted` or raises `RefusedError`.

        One that was accepted already gets its receipt again: the answer may have been lost on the way.
        """
        with self._lock:
            admission = self._desk.current(silo, self._ledger.now())
            header = read_header(source)
            if (answer := self._uploads.repeated(silo, header, self._attempt)) is not None:
                return answer
            task = self._uploads.begin(admission, source, header, self._collecting(), self._state)
        try:
            verdict = task.judge()
            with self._lock:
                return self._finish_upload(task, verdict)
        finally:
            with self._lock:
                task.end()
                if task.attempt is None:
                    self._ask_another(silo)
            self._ports.wake()

    def describe(self) -> Description:
        """Where the federation stands."""
        with self._lock:
            history = self._ledger.history
            return Description(
                agreement=self._agreement.digest,
                origin=self._boot.origin,
                boot_id=self._boot.boot_id,
                ca_certificate=self._boot.ca.certificate_der,
                simulated=self._agreement.simulated,
                phase=str(history.phase),
                round=history.published_rounds if history.phase is Phase.CLOSED else history.round,
                attempt=history.attempt,
                log_size=self._ledger.size,
                admitted=self._desk.admitted,
                joined=self._release.joined(),
                waiting_for=self._release.waiting_for,
            )

    # Time

    def next_due(self) -> int | None:
        """When `tick` has something to do at the latest, in unix seconds; None if only a message can bring it."""
        with self._lock:
            phase, now = self._ledger.history.phase, self._ports.clock()
            if self._release.has_sessions and (phase is Phase.IDLE or self._state.model is None):
                initial = None if self._initial_from is None else self._initial_due
                return min((due for due in (self._open_at, initial) if due is not None and now < due), default=None)
            if phase is Phase.COLLECTING and self._attempt is not None:
                return self._attempt.deadline
            return None

    def tick(self) -> None:
        """Do everything that is due. One thread calls this, at `next_due` and whenever `wake` asked for it."""
        while self._advance():
            pass

    def _advance(self) -> bool:
        with self._lock:
            phase = self._ledger.history.phase
            if phase is Phase.IDLE:
                return self._open_if_ready()
            if phase is Phase.CLOSED:
                if self._state.model is None:
                    self._ask_for_model(self._release.joined())
                elif not self._release.is_asked_for:
                    self._release.ask(None, self._state)
                return False
            if phase is Phase.COLLECTING:
                return self._close_if_due()
            if phase is not Phase.COMMITTED or self._attempt is None:
                return False
            attempt, state = self._attempt, self._state
        result = self._closing.run(attempt, state)
        with self._lock:
            self._conclude(result)
        return True

    # Opening

    def _open_if_ready(self) -> bool:
        history, joined = self._ledger.history, self._release.joined()
        if history.published_rounds >= self._agreement.federation.rounds:
            self._open_next()
            return True
        if not self._release.suffices():
            return False
        if self._state.model is None:
            self._ask_for_model(joined)
            return False
        if len(joined) < len(self._agreement.silos) and self._ports.clock() < self._open_at:
            return False
        self._open_next()
        return True

    def _open_next(self) -> None:
        """Log what is staged and, in the same batch, the next attempt or the end; then ask for cosignatures."""
        history = self._ledger.history
        if history.reset_due is not None:
            reset = ControlReset(time=self._ledger.now(), epoch=history.control_epoch + 1, silo=history.reset_due)
            self._ledger.stage(reset)
            self._state = replace(self._state, control=None)
        if history.published_rounds >= self._agreement.federation.rounds:
            self._ledger.stage(self._closed())
        else:
            self._attempt = Attempt(
                round=history.round,
                attempt=history.attempt + 1,
                key=SealingKey(self._ports.random(SEALING_SEED_BYTES)),
            )
            self._ledger.stage(self._opened(self._attempt))
        self._ledger.flush()
        if self._state.model is not None:
            self._release.ask(self._attempt, self._state)

    def _opened(self, attempt: Attempt) -> RoundOpened:
        history, training = self._ledger.history, self._agreement.training
        return RoundOpened(
            time=self._ledger.now(),
            boot_id=self._boot.boot_id,
            round=attempt.round,
            attempt=attempt.attempt,
            round_key=attempt.key.public.raw,
            model=history.model,
            control=history.control,
            control_epoch=history.control_epoch,
            strategy=str(training.strategy),
            local_steps=training.local_steps,
            learning_rate=training.learning_rate,
            server_learning_rate=training.server_learning_rate,
            deadline_seconds=self._agreement.federation.round_deadline_seconds,
        )

    def _closed(self) -> LogClosed:
        history = self._ledger.history
        return LogClosed(
            time=self._ledger.now(),
            boot_id=self._boot.boot_id,
            rounds=history.published_rounds,
            model=history.model,
        )

    def _ask_for_model(self, joined: tuple[str, ...]) -> None:
        """Ask one silo at a time for the initial model, or after a recovery for the one that the log names.

        Those first who were not asked yet, each for a round's time.
        """
        now = self._ports.clock()
        if not joined or (self._initial_from is not None and now < self._initial_due):
            return
        silo = next((silo for silo in joined if silo not in self._initial_asked), None)
        if silo is None:
            self._initial_asked.clear()
            silo = joined[0]
        self._initial_from = silo
        self._initial_due = now + self._agreement.federation.round_deadline_seconds
        self._initial_asked.add(silo)
        self._ports.send(silo, WantInitial(digest=self._ledger.history.model, lost=self._lost_model()).encode())

    def _lost_model(self) -> LostModel | None:
        """What shows a silo that it may hand out another model than the initial one."""
        history, size = self._ledger.history, self._ledger.size
        if history.model == self._agreement.model.initial:
            return None
        index = next(index for index, entry in reversed(history.key_changes) if isinstance(entry, LogRecovered))
        return LostModel(recovered=self._ledger.logged(index, size), checkpoint=self._ledger.checkpoint_text)

    def _ask_another(self, silo: str) -> None:
        """If this silo was asked for the initial model: it left, began anew, or sent something else."""
        if self._initial_from == silo:
            self._initial_from = None

    def _join(self, silo: str, join: Join) -> None:
        self._ask_another(silo)
        self._release.join(silo, join)

    def _join_witness(self, witness: str, head: int) -> None:
        try:
            self._release.join_witness(witness, head)
        except RefusedError as error:
            # This store is older than what the witness has cosigned; or the witness errs, or whoever speaks for it.
            self._ports.event(f"{error.refusal.code} witness={witness} head={head} log-size={self._ledger.size}")
            raise

    # Updates and closing

    def _finish_upload(self, task: UploadTask, verdict: Verdict) -> bytes:
        if isinstance(verdict, InitialModel):
            if self._state.model is None:
                self._state = replace(self._state, model=verdict.body)
            return UploadAccepted(entry=None, receipt=None).encode()
        # The admission may have run out while the upload was judged. One look at the clock: the entry's time counts.
        now = self._ledger.now()
        self._desk.current(task.admission.silo, now)
        return self._uploads.record(task, verdict, self._attempt, now)

    def _collecting(self) -> Attempt | None:
        """The attempt that takes updates. Closing waits for what is being judged, so that nothing begins after it."""
        attempt = self._attempt
        if attempt is None or attempt.deadline is None or self._ports.clock() >= attempt.deadline:
            return None
        return attempt

    def _close_if_due(self) -> bool:
        attempt, ledger = self._attempt, self._ledger
        if attempt is None or attempt.deadline is None or attempt.checking:
            return False
        if not attempt.is_complete() and self._ports.clock() < attempt.deadline:
            return False
        cohort = ledger.history.cohort()
        if self._agreement.cohort_is_sufficient([member.silo for member in cohort]):
            ledger.record(
                RoundCommitted(
                    time=ledger.now(), round=attempt.round, attempt=attempt.attempt, cohort=cohort, privacy_charge=0.0
                )
            )
            return True
        abandoned = RoundAbandoned(
            time=ledger.now(), round=attempt.round, attempt=attempt.attempt, reason=BELOW_MINIMUM_COHORT, silo=None
        )
        self._conclude(Result(entry=abandoned, state=self._state))
        return True

    def _conclude(self, result: Result) -> None:
        """The attempt has ended: log how and, if enough silos are here, what comes next."""
        self._attempt = None
        self._release.withdraw()
        # The merge ran beside everything else: other entries may have been logged since the result was made.
        self._ledger.stage(replace(result.entry, time=self._ledger.now()))
        self._state = result.state
        over = self._ledger.history.published_rounds >= self._agreement.federation.rounds
        if over or self._release.suffices():
            self._open_next()
        else:
            self._ledger.flush()
        self._closing.forget(self._ledger.history, self._state)
