"""What a log tells, for people: who took part, what became of each attempt, and what else happened.

Filled by `audit.verify` with entries that follow from the ones before and whose evidence held: a log that is broken
tells its story up to there. Trusts and checks nothing itself. Called by the report.
"""

from dataclasses import dataclass, field

from audit.entries import (
    ApplianceStarted,
    ControlReset,
    Entry,
    KeyRotated,
    LogClosed,
    LogGenesis,
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
from protocol.agreement import Agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An enrolment or an update that was refused: whose, why, when (unix seconds). `round` is None for enrolments."""

    index: int
    time: int
    silo: str
    code: str
    round: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """An admission and what vouched for it: the TEE's name, or "none". Times in unix seconds."""

    index: int
    time: int
    expires: int
    tee: str


@dataclass(slots=True, kw_only=True)
class SiloStory:
    """One silo: its admissions, and how many of its updates were accepted, used and refused."""

    name: str
    admissions: list[Admission] = field(default_factory=list)
    accepted: int = 0
    used: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStory:
    """One attempt that has ended. `cohort` is empty unless it was published, `reason` None if it was.

    `model_in`, `model_out`: content digests (32 bytes); `accepted` and `refused` count updates. Times in unix seconds.
    """

    index: int
    round: int
    attempt: int
    opened: int
    ended: int
    accepted: int
    refused: int
    cohort: tuple[str, ...]
    reason: str | None
    model_in: bytes
    model_out: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Anything else: a boot, a reset, an end. `what` is a sentence without the time (unix seconds)."""

    index: int
    time: int
    what: str


class Story:
    """Takes entries in the order of the log."""

    def __init__(self, agreement: Agreement) -> None:
        self.silos = {silo.name: SiloStory(name=silo.name) for silo in agreement.silos}
        self.attempts: list[AttemptStory] = []
        self.refusals: list[Refusal] = []
        self.events: list[Event] = []
        self.first_time: int | None = None
        self.newest_time = 0
        self._opened: RoundOpened | None = None
        self._accepted = 0
        self._refused = 0

    def take(self, index: int, entry: Entry) -> None:
        """The next entry, at its index."""
        self.first_time = entry.time if self.first_time is None else self.first_time
        self.newest_time = entry.time
        if isinstance(entry, SiloAdmitted):
            self.silos[entry.silo].admissions.append(
                Admission(index=index, time=entry.time, expires=entry.expires, tee=entry.tee)
            )
        elif isinstance(entry, SiloRefused):
            self._refuse(index, entry, None)
        elif isinstance(entry, RoundOpened):
            self._opened, self._accepted, self._refused = entry, 0, 0
        elif isinstance(entry, UpdateAccepted):
            self._accepted += 1
            self.silos[entry.silo].accepted += 1
        elif isinstance(entry, UpdateRefused):
            self._refused += 1
            self.silos[entry.silo].refused += 1
            self._refuse(index, entry, entry.round)
        elif isinstance(entry, RoundPublished | RoundAbandoned):
            self._end(index, entry)
        elif not isinstance(entry, RoundCommitted):
            self.events.append(Event(index=index, time=entry.time, what=_sentence(entry)))

    def _refuse(self, index: int, entry: SiloRefused | UpdateRefused, round_number: int | None) -> None:
        self.refusals.append(
            Refusal(index=index, time=entry.time, silo=entry.silo, code=entry.code, round=round_number)
        )

    def _end(self, index: int, entry: RoundPublished | RoundAbandoned) -> None:
        opened = self._opened
        if opened is None:
            raise ValueError("an attempt ends that none has opened")
        published = entry if isinstance(entry, RoundPublished) else None
        cohort = () if published is None else tuple(member.silo for member in published.cohort)
        for silo in cohort:
            self.silos[silo].used += 1
        self.attempts.append(
            AttemptStory(
                index=index,
                round=entry.round,
                attempt=entry.attempt,
                opened=opened.time,
                ended=entry.time,
                accepted=self._accepted,
                refused=self._refused,
                cohort=cohort,
                reason=entry.reason if isinstance(entry, RoundAbandoned) else None,
                model_in=opened.model,
                model_out=None if published is None else published.model_out,
            )
        )
        self._opened = None


def _sentence(entry: Entry) -> str:
    if isinstance(entry, LogGenesis):
        before = entry.predecessor
        return "the log began" + (
            "" if before is None else f", going on from {before.origin} after round {before.rounds}"
        )
    if isinstance(entry, ApplianceStarted):
        return f"the appliance started (boot {entry.boot_id.hex()[:16]}…)"
    if isinstance(entry, KeyRotated):
        return f"the log's key was retired, and handed over to {entry.keys.log_key}"
    if isinstance(entry, ControlReset):
        return f"all control variates were reset, because {entry.silo} had lost its own"
    if isinstance(entry, LogClosed):
        return f"the federation ended after {entry.rounds} rounds"
    if isinstance(entry, LogSuperseded):
        return f"the federation goes on under agreement sha256:{entry.successor.hex()[:16]}…"
    return str(entry.KIND)
