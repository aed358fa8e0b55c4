"""The log's semantics as one transition table: what may follow what, and what every entry must agree with.

Both ends run it. The enclave applies each entry before it writes it, so that it can't log what an audit would
refuse, and restores itself from the log by the same calls; the auditor applies every entry that he reads and names
the first that doesn't follow. Pure: no bytes are read and no evidence appraised here (`audit.verify` does that).

What may follow in which phase, and why an attempt may end, is in `audit.phases`.
"""

from collections.abc import Callable
from typing import Any

from audit.divergence import DivergenceError
from audit.entries import (
    ApplianceStarted,
    CohortMember,
    ControlReset,
    Entry,
    KeyRotated,
    LogClosed,
    LogGenesis,
    LogRecovered,
    LogSuperseded,
    RoundAbandoned,
    RoundCommitted,
    RoundOpened,
    RoundPublished,
    SiloAdmitted,
    SiloRefused,
    UpdateAccepted,
    UpdateRefused,
)
from audit.freshness import Freshness
from audit.id_set import IdSet
from audit.phases import (
    ALLOWED,
    BELOW_MINIMUM_COHORT,
    CHANGED_AFTER_ADMISSION,
    HELD_AGAINST_A_SILO,
    OVERFLOW,
    RESTART,
    SPOOL_CHANGED,
    Outcome,
    Phase,
)
from protocol.agreement import Agreement, SiloTerms, Strategy
from protocol.errors import RefusalCode, RefusedError


class History:
    """The state that the entries so far amount to. Everything that affects state lives here."""

    def __init__(self, agreement: Agreement) -> None:
        self.agreement = agreement
        self.size = 0
        self.newest_time = 0
        self.phase = Phase.EMPTY
        self.genesis: LogGenesis | None = None
        self.started: ApplianceStarted | None = None
        self.started_index = 0
        self.boots: set[bytes] = set()
        self.fresh = Freshness()
        # The newest entry that named a log key, and the index of each that replaced one.
        self.keyed: LogGenesis | KeyRotated | LogRecovered | None = None
        self.key_changes: list[tuple[int, KeyRotated | LogRecovered]] = []
        self._former_keys: set[bytes] = set()
        self._before_rekeying = Phase.EMPTY
        self.admitted: dict[str, SiloAdmitted] = {}
        self.published_rounds = 0
        self.attempt = 0
        self.model = agreement.model.initial
        # The newest round that published a model, by content (0: the initial model).
        self.models = {agreement.model.initial: 0}
        self.control: bytes | None = None
        self.control_epoch = 0
        self.state: bytes | None = None
        self.parents: dict[str, bytes] = {}
        self.opened: RoundOpened | None = None
        self.opened_index = 0
        # By log.closed or log.superseded: the model is the last one.
        self.ended = False
        self.updates: dict[str, UpdateAccepted] = {}
        self.refused: dict[str, UpdateRefused] = {}
        self.upload_ids = IdSet(16)
        self.committed: RoundCommitted | None = None
        self.outcomes: dict[tuple[int, int], Outcome] = {}
        self.reset_due: str | None = None
        self.barred: set[str] = set()
        self.superseded: LogSuperseded | None = None

    @property
    def uses_controls(self) -> bool:
        return self.agreement.training.strategy is Strategy.SCAFFOLD

    @property
    def round(self) -> int:
        """The number of the round that is open, or would be opened next."""
        return self.published_rounds + 1

    @property
    def log_key(self) -> bytes | None:
        """The key (32 bytes) that signs the log's checkpoints now; None before leaf 0."""
        return None if self.keyed is None else self.keyed.keys.log

    def cohort(self) -> tuple[CohortMember, ...]:
        """What a commit must hold now: every accepted update, in the agreement's order, with its weight."""
        return tuple(
            CohortMember(silo=silo.name, upload_id=update.upload_id, update=update.update, weight=silo.weight)
            for silo in self.agreement.silos
            if (update := self.updates.get(silo.name)) is not None
        )

    def apply(self, entry: Entry) -> None:
        """Take the next entry; raises `DivergenceError` and changes nothing if it doesn't follow."""
        kind = type(entry)
        if kind not in ALLOWED[self.phase]:
            raise self._diverges(entry, f"may not follow in phase {self.phase}")
        if entry.time < self.newest_time:
            raise self._diverges(entry, f"time: expected at least {self.newest_time}, found {entry.time}")
        check, take = _TRANSITIONS[kind]
        check(self, entry)
        take(self, entry)
        self.newest_time = entry.time
        self.size += 1

    def _diverges(self, entry: Entry, problem: str) -> DivergenceError:
        return DivergenceError(self.size, entry.KIND, problem)

    def _require(self, entry: Entry, what: str, expected: object, found: object) -> None:
        if expected != found:
            raise self._diverges(entry, f"{what}: expected {_shown(expected)}, found {_shown(found)}")

    def _require_fresh(self, entry: Entry, problem: str | None) -> None:
        if problem is not None:
            raise self._diverges(entry, problem)

    def _boot(self, entry: Entry, boot_id: bytes) -> None:
        self._require(entry, "boot id", self.started.boot_id if self.started else None, boot_id)

    def _terms(self, entry: Entry, silo: str) -> SiloTerms:
        try:
            return self.agreement.silo(silo)
        except RefusedError as error:
            raise self._diverges(entry, f"the agreement names no silo {silo!r}") from error

    def _attempt(self, entry: Entry, round_number: int, attempt: int) -> None:
        self._require(entry, "round and attempt", (self.round, self.attempt), (round_number, attempt))

    # log.genesis, key.rotated, log.recovered, appliance.started

    def _check_genesis(self, entry: LogGenesis) -> None:
        self._require(entry, "agreement", self.agreement.digest, entry.agreement)
        self._require(entry, "origin", self.agreement.log.origin, entry.origin)
        ours, theirs = self.agreement.predecessor, entry.predecessor
        if ours is None or theirs is None:
            self._require(entry, "a predecessor", ours is not None, theirs is not None)
            return
        self._require(entry, "predecessor", ours.agreement, theirs.agreement)
        self._require(entry, "the predecessor's rounds", ours.rounds, theirs.rounds)
        self._require(entry, "the predecessor's model", self.model, theirs.model)
        # mechanism = "none" is the only one yet, and charges nothing.
        self._require(entry, "privacy spent", 0.0, theirs.privacy_spent)

    def _take_genesis(self, entry: LogGenesis) -> None:
        self.genesis, self.keyed, self.state, self.phase = entry, entry, entry.state, Phase.CREATED

    def _check_rekeyed(self, entry: KeyRotated | LogRecovered) -> None:
        self._require(entry, "agreement", self.agreement.digest, entry.agreement)
        self._require(entry, "previous log key", self.log_key, entry.previous)
        if entry.keys.log == self.log_key or entry.keys.log in self._former_keys:
            raise self._diverges(entry, "log key: expected a new one, found one used before")
        if entry.boot_id in self.boots:
            raise self._diverges(entry, "boot id: expected a new one, found one used before")

    def _take_rekeyed(self, entry: KeyRotated | LogRecovered) -> None:
        self._former_keys.add(entry.previous)
        self.keyed, self.state = entry, entry.state
        self.key_changes.append((self.size, entry))
        self._before_rekeying, self.phase = self.phase, Phase.REKEYED

    def _check_recovered(self, entry: LogRecovered) -> None:
        self._check_rekeyed(entry)
        self._require(entry, "size (this entry's index)", self.size, entry.size)
        if entry.model not in self.models:
            raise self._diverges(entry, "model: expected the initial model or one that was published")
        if self.phase is Phase.CLOSED:
            self._require(entry, "model of the log's end", self.model, entry.model)

    def _take_recovered(self, entry: LogRecovered) -> None:
        self._take_rekeyed(entry)
        # What the lost state held is lost: the model comes back from a silo, and controls begin anew.
        self.model = entry.model
        self._reset_controls(self.control_epoch + 1)

    def _check_started(self, entry: ApplianceStarted) -> None:
        self._require(entry, "agreement", self.agreement.digest, entry.agreement)
        if self.keyed is None:
            raise self._diverges(entry, "no genesis before it")
        self._require(entry, "log key", self.log_key, entry.keys.log)
        if self.phase in (Phase.CREATED, Phase.REKEYED):
            before = "the genesis" if self.phase is Phase.CREATED else f"the {self.keyed.KIND} before it"
            self._require(entry, f"boot id of {before}", self.keyed.boot_id, entry.boot_id)
            self._require(entry, f"keys of {before}", self.keyed.keys, entry.keys)
        elif entry.boot_id in self.boots:
            raise self._diverges(entry, "boot id: expected a new one, found one used before")
        self._require_fresh(entry, self.fresh.problem_of_boot(entry.keys))

    def _take_started(self, entry: ApplianceStarted) -> None:
        self.started, self.started_index = entry, self.size
        self.boots.add(entry.boot_id)
        self.fresh.take_boot(entry.keys)
        self.admitted.clear()
        phase = self._before_rekeying if self.phase is Phase.REKEYED else self.phase
        if phase in (Phase.COLLECTING, Phase.COMMITTED):
            phase = Phase.INTERRUPTED
        self.phase = Phase.IDLE if phase is Phase.CREATED else phase

    # silo.admitted, silo.refused

    def _check_admitted(self, entry: SiloAdmitted) -> None:
        self._boot(entry, entry.boot_id)
        terms = self._terms(entry, entry.silo)
        self._require(entry, "owner", terms.owner, entry.owner)
        self._require(entry, "jurisdiction", terms.jurisdiction, entry.jurisdiction)
        self._require(entry, "expires", entry.time + self.agreement.federation.credential_seconds, entry.expires)

    def _take_admitted(self, entry: SiloAdmitted) -> None:
        self.admitted[entry.silo] = entry

    def _check_silo_refused(self, entry: SiloRefused) -> None:
        self._boot(entry, entry.boot_id)
        self._terms(entry, entry.silo)

    def _take_nothing(self, entry: Entry) -> None:
        pass

    # round.opened, update.accepted, update.refused

    def _check_opened(self, entry: RoundOpened) -> None:
        training = self.agreement.training
        self._boot(entry, entry.boot_id)
        self._require(entry, "round and attempt", (self.round, self.attempt + 1), (entry.round, entry.attempt))
        if self.published_rounds >= self.agreement.federation.rounds:
            raise self._diverges(entry, f"all {self.agreement.federation.rounds} rounds are published")
        if self.reset_due is not None:
            raise self._diverges(entry, f"expected the control.reset that {self.reset_due} is due")
        self._require_fresh(entry, self.fresh.problem_of_round_key(entry.round_key))
        self._require(entry, "model", self.model, entry.model)
        self._require(entry, "control variate", self.control, entry.control)
        self._require(entry, "control epoch", self.control_epoch, entry.control_epoch)
        self._require(entry, "strategy", str(training.strategy), entry.strategy)
        self._require(entry, "local steps", training.local_steps, entry.local_steps)
        self._require(entry, "learning rate", training.learning_rate, entry.learning_rate)
        self._require(entry, "server learning rate", training.server_learning_rate, entry.server_learning_rate)
        deadline = self.agreement.federation.round_deadline_seconds
        self._require(entry, "deadline in seconds", deadline, entry.deadline_seconds)

    def _take_opened(self, entry: RoundOpened) -> None:
        self.opened, self.opened_index, self.attempt = entry, self.size, entry.attempt
        self.fresh.take_round_key(entry.round_key)
        self.updates, self.refused, self.committed = {}, {}, None
        self.phase = Phase.COLLECTING

    def _check_update(self, entry: UpdateAccepted | UpdateRefused) -> None:
        self._attempt(entry, entry.round, entry.attempt)
        self._terms(entry, entry.silo)
        if entry.silo in self.updates or entry.silo in self.refused:
            raise self._diverges(entry, f"{entry.silo} has a complete upload in this attempt already")
        if entry.silo not in self.admitted:
            raise self._diverges(entry, f"{entry.silo} was not admitted in this boot")
        if entry.time >= self.admitted[entry.silo].expires:
            raise self._diverges(entry, f"{entry.silo}'s admission had expired")
        if entry.upload_id in self.upload_ids:
            raise self._diverges(entry, "upload id: expected a new one, found one used before")
        if entry.silo in self.barred:
            raise self._diverges(entry, f"{entry.silo} is barred: its bytes changed after admission")

    def _check_accepted(self, entry: UpdateAccepted) -> None:
        self._check_update(entry)
        self._require_fresh(entry, self.fresh.problem_of_update(entry.update))
        if self.uses_controls:
            self._require(entry, "parent", self.parents.get(entry.silo), entry.parent)

    def _take_accepted(self, entry: UpdateAccepted) -> None:
        self.updates[entry.silo] = entry
        self.upload_ids.add(entry.upload_id)
        self.fresh.take_update(entry.update)

    def _check_update_refused(self, entry: UpdateRefused) -> None:
        self._check_update(entry)
        has_parents = self.uses_controls or entry.code != RefusalCode.WRONG_PARENT
        if entry.code not in HELD_AGAINST_A_SILO or not has_parents:
            raise self._diverges(entry, f"code: {entry.code} is no reason to refuse an update for")

    def _take_update_refused(self, entry: UpdateRefused) -> None:
        self.refused[entry.silo] = entry
        self.upload_ids.add(entry.upload_id)
        if entry.code == RefusalCode.WRONG_PARENT:
            self.reset_due = entry.silo

    # round.committed, round.published, round.abandoned

    def _check_committed(self, entry: RoundCommitted) -> None:
        self._attempt(entry, entry.round, entry.attempt)
        self._require(entry, "cohort (every accepted update, once)", self.cohort(), entry.cohort)
        if not self.agreement.cohort_is_sufficient([member.silo for member in entry.cohort]):
            raise self._diverges(entry, "the cohort is below the agreement's minimum")
        # mechanism = "none" is the only one yet, and charges nothing.
        self._require(entry, "privacy charge", 0.0, entry.privacy_charge)

    def _take_committed(self, entry: RoundCommitted) -> None:
        self.committed, self.phase = entry, Phase.COMMITTED

    def _check_published(self, entry: RoundPublished) -> None:
        self._attempt(entry, entry.round, entry.attempt)
        self._require(entry, "cohort", self.committed.cohort if self.committed else (), entry.cohort)
        self._require(entry, "model in", self.model, entry.model_in)
        self._require(entry, "control variate in", self.control, entry.control_in)
        self._require(entry, "a control variate out", self.uses_controls, entry.control_out is not None)

    def _take_published(self, entry: RoundPublished) -> None:
        used = {member.silo: member.upload_id for member in entry.cohort}
        self._end_attempt(used)
        self.parents.update(used)
        self.model, self.control, self.state = entry.model_out, entry.control_out, entry.state
        self.models[entry.model_out] = entry.round
        self.published_rounds, self.attempt = entry.round, 0

    def _check_abandoned(self, entry: RoundAbandoned) -> None:
        self._attempt(entry, entry.round, entry.attempt)
        silos = [member.silo for member in self.cohort()]
        if entry.reason not in (CHANGED_AFTER_ADMISSION, SPOOL_CHANGED):
            self._require(entry, "silo", None, entry.silo)
        if self.phase is Phase.INTERRUPTED:
            self._require(entry, "reason", RESTART, entry.reason)
        elif self.phase is Phase.COMMITTED:
            if entry.reason not in (CHANGED_AFTER_ADMISSION, SPOOL_CHANGED, OVERFLOW):
                raise self._diverges(entry, f"reason: {entry.reason} ends no committed attempt")
            if entry.reason != OVERFLOW and entry.silo not in silos:
                raise self._diverges(entry, "names no member of the committed cohort")
        else:
            self._require(entry, "reason", BELOW_MINIMUM_COHORT, entry.reason)
            if self.agreement.cohort_is_sufficient(silos):
                raise self._diverges(entry, "the cohort reached the agreement's minimum")

    def _take_abandoned(self, entry: RoundAbandoned) -> None:
        if entry.reason == CHANGED_AFTER_ADMISSION and entry.silo is not None:
            self.barred.add(entry.silo)
        self._end_attempt({})

    def _end_attempt(self, used: dict[str, bytes]) -> None:
        self.outcomes[(self.round, self.attempt)] = Outcome(index=self.size, used=used)
        self.opened, self.phase = None, Phase.IDLE
        self.updates, self.refused, self.committed = {}, {}, None

    # control.reset, log.closed, log.superseded

    def _check_reset(self, entry: ControlReset) -> None:
        if self.reset_due is None:
            raise self._diverges(entry, "no silo's lost control variate is on record")
        self._require(entry, "silo", self.reset_due, entry.silo)
        self._require(entry, "epoch", self.control_epoch + 1, entry.epoch)

    def _take_reset(self, entry: ControlReset) -> None:
        self._reset_controls(entry.epoch)

    def _reset_controls(self, epoch: int) -> None:
        self.control, self.control_epoch, self.reset_due = None, epoch, None
        self.parents.clear()

    def _check_closed(self, entry: LogClosed) -> None:
        self._boot(entry, entry.boot_id)
        self._require(entry, "published rounds", self.agreement.federation.rounds, self.published_rounds)
        self._require(entry, "rounds", self.published_rounds, entry.rounds)
        self._require(entry, "model", self.model, entry.model)

    def _take_closed(self, entry: LogClosed) -> None:
        self.ended, self.opened_index, self.phase = True, self.size, Phase.CLOSED

    def _check_superseded(self, entry: LogSuperseded) -> None:
        self._boot(entry, entry.boot_id)
        if self.superseded is not None:
            raise self._diverges(entry, "this log has been superseded already")
        if not self.published_rounds:
            raise self._diverges(entry, "no round was published that could be gone on from")
        self._require(entry, "rounds", self.published_rounds, entry.rounds)
        self._require(entry, "model", self.model, entry.model)

    def _take_superseded(self, entry: LogSuperseded) -> None:
        self.superseded, self.ended = entry, True
        self.opened_index, self.phase = self.size, Phase.CLOSED


_Step = Callable[[History, Any], None]
_TRANSITIONS: dict[type[Entry], tuple[_Step, _Step]] = {
    LogGenesis: (History._check_genesis, History._take_genesis),
    ApplianceStarted: (History._check_started, History._take_started),
    KeyRotated: (History._check_rekeyed, History._take_rekeyed),
    LogRecovered: (History._check_recovered, History._take_recovered),
    SiloAdmitted: (History._check_admitted, History._take_admitted),
    SiloRefused: (History._check_silo_refused, History._take_nothing),
    RoundOpened: (History._check_opened, History._take_opened),
    UpdateAccepted: (History._check_accepted, History._take_accepted),
    UpdateRefused: (History._check_update_refused, History._take_update_refused),
    RoundCommitted: (History._check_committed, History._take_committed),
    RoundPublished: (History._check_published, History._take_published),
    RoundAbandoned: (History._check_abandoned, History._take_abandoned),
    ControlReset: (History._check_reset, History._take_reset),
    LogClosed: (History._check_closed, History._take_closed),
    LogSuperseded: (History._check_superseded, History._take_superseded),
}


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()[:16] + "…"
    return str(value)[:160]
