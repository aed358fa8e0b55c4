"""Evidence as of another day: what its vendors have withdrawn since a log was written, and which rounds rested on it.

A history is judged by the time of each entry, and no later news changes that verdict. But a key that turns out to
have been revoked, or a platform that turns out to have been open, may have vouched for anybody. So whatever was
accepted in its time is appraised once more with the auditor's lists, and sorted:

    accepted again                    it holds
    withdrawn, or not accepted more   in doubt; the rounds that rest on it are named
    anything else                     not checked: no list for it, one that is out of date, a certificate that has ended

A round rests on the genesis and on the boot that published it, and on the admissions under which its cohort's updates
were accepted. Every later model descends from it.

Pure: lists and time are the auditor's. Bounded: one line a party and reason, rounds as spans. Called by
`audit.evidence` with whatever it has accepted, and by `audit.verify` with every entry.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from attestation import (
    AttestationError,
    Evidence,
    EvidenceRefused,
    EvidenceWithdrawn,
    RevocationUnpublished,
    appraise_again,
)
from attestation.reference_values import ReferenceValues
from audit.as_of import AsOf, Span, Standing
from audit.entries import (
    ApplianceStarted,
    Entry,
    KeyRotated,
    LogGenesis,
    LogRecovered,
    RoundOpened,
    RoundPublished,
    SiloAdmitted,
    UpdateAccepted,
)
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.enrolment import Enrol

MAXIMUM_REASONS = 200
_MAXIMUM_ENTRIES = 20
_APPLIANCE = "the appliance"
_OTHERS = ("others", f"more than {MAXIMUM_REASONS} reasons; these are not told apart")


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherDay:
    """What vendors publish on another day than the log's: lists and collateral of any kind, and the day's unix time."""

    endorsements: tuple[bytes, ...]
    time: int


@dataclass(slots=True)
class _Spans:
    """Numbers that come in ascending order, some twice."""

    spans: list[Span] = field(default_factory=list)

    def add(self, number: int) -> None:
        if self.spans and number <= self.spans[-1][1] + 1:
            self.spans[-1] = (self.spans[-1][0], max(number, self.spans[-1][1]))
        else:
            self.spans.append((number, number))


@dataclass(slots=True)
class _Tally:
    """One party and reason."""

    party: str
    reason: str
    entries: list[int] = field(default_factory=list)
    count: int = 0
    rounds: _Spans = field(default_factory=_Spans)

    def standing(self) -> Standing:
        return Standing(
            party=self.party,
            reason=self.reason,
            entries=tuple(self.entries),
            count=self.count,
            rounds=tuple(self.rounds.spans),
        )


class _Tallies:
    """Entries by party and reason, at most `MAXIMUM_REASONS` of them apart."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def add(self, index: int, party: str, reason: str) -> _Tally:
        known = (party, reason) in self._tallies or len(self._tallies) < MAXIMUM_REASONS
        key = (party, reason) if known else _OTHERS
        tally = self._tallies.setdefault(key, _Tally(*key))
        tally.count += 1
        if len(tally.entries) < _MAXIMUM_ENTRIES:
            tally.entries.append(index)
        return tally

    def standings(self) -> tuple[Standing, ...]:
        return tuple(tally.standing() for tally in self._tallies.values())


class Doubts:
    """Appraises again; remembers what the present boot, admissions and attempt rest on."""

    def __init__(self, *, agreement: Agreement, day: OtherDay) -> None:
        self._agreement = agreement
        self._endorsements = day.endorsements
        self._now = day.time
        self._held = 0
        self._doubts, self._unchecked, self._unpublished = _Tallies(), _Tallies(), _Tallies()
        self._rounds = _Spans()
        self._keyed: list[_Tally] = []
        self._boot: _Tally | None = None
        self._admissions: dict[str, _Tally | None] = {}
        self._relied_on: list[_Tally] = []

    def appliance(
        self,
        index: int,
        entry: LogGenesis | ApplianceStarted | KeyRotated | LogRecovered,
        evidence: bytes,
        report_data: bytes,
    ) -> None:
        """Evidence of the appliance that was accepted at the entry's time."""
        tally = self._again(index, entry.time, _APPLIANCE, evidence, self._agreement.appliance, report_data)
        if not isinstance(entry, ApplianceStarted):
            # Each log key vouches for the next: what comes after rests on all of them.
            self._keyed += _without_none((tally,))
        else:
            self._boot = tally
            self._admissions.clear()

    def silo(self, index: int, entry: SiloAdmitted, enrol: Enrol) -> None:
        """A silo's request that was accepted at the entry's time; it may have no evidence."""
        self._admissions[entry.silo] = None
        if enrol.evidence is not None:
            references = self._agreement.silo(entry.silo).reference_values
            report_data = enrol.expected_report_data()
            self._admissions[entry.silo] = self._again(
                index, entry.time, entry.silo, enrol.evidence, references, report_data
            )

    def follow(self, entry: Entry) -> None:
        """Every entry of the history, after its evidence: what the open attempt rests on."""
        if isinstance(entry, RoundOpened):
            self._relied_on = _without_none((*self._keyed, self._boot))
        elif isinstance(entry, UpdateAccepted):
            self._relied_on += _without_none((self._admissions.get(entry.silo),))
        elif isinstance(entry, RoundPublished):
            for tally in self._relied_on:
                tally.rounds.add(entry.round)
                self._rounds.add(entry.round)

    def as_of(self) -> AsOf:
        """What there is to say."""
        return AsOf(
            time=self._now,
            held=self._held,
            doubts=self._doubts.standings(),
            unchecked=self._unchecked.standings(),
            unpublished=self._unpublished.standings(),
            rounds=tuple(self._rounds.spans),
        )

    def _again(
        self,
        index: int,
        time: int,
        party: str,
        evidence: bytes,
        references: Sequence[ReferenceValues],
        report_data: bytes,
    ) -> _Tally | None:
        """Sort one piece; what is in doubt is returned."""
        if self._now < time:
            self._unchecked.add(index, party, "logged later than the day that the lists are of")
            return None
        now = datetime.fromtimestamp(self._now, UTC)
        try:
            appraise_again(Evidence.parse(evidence), self._endorsements, references, report_data, now)
        except (EvidenceWithdrawn, EvidenceRefused) as error:
            return self._doubts.add(index, party, printable(str(error)))
        except RevocationUnpublished as error:
            self._unpublished.add(index, party, printable(str(error)))
        except AttestationError as error:
            self._unchecked.add(index, party, printable(str(error)))
        else:
            self._held += 1
        return None


def _without_none(tallies: Iterable[_Tally | None]) -> list[_Tally]:
    return [tally for tally in tallies if tally is not None]
