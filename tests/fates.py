"""What became of every update: the log's word, and whether it is what the silos were told.

An update that was accepted was used in its own attempt's publication, or the attempt was abandoned, for a reason that
the log names; then its silo's next update for the round takes its place (`repeated`), unless the silo was away.
Whatever else happened to one is a loss.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audit.entries import Entry, RoundAbandoned, RoundPublished, UpdateAccepted, UpdateRefused

_Events = Sequence[Mapping[str, Any]]


@dataclass
class Fates:
    """Counts of updates, and a sentence for each that was lost."""

    accepted: int = 0
    used: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    not_repeated: int = 0
    abandoned: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, log: Sequence[Entry], told: Iterable[tuple[str, _Events]]) -> "Fates":
        """`told`: of every process of a silo, the silo's name and the events that it printed."""
        fates = cls()
        ends: dict[tuple[int, int], RoundPublished | RoundAbandoned] = {}
        for entry in log:
            if isinstance(entry, RoundPublished | RoundAbandoned):
                ends[entry.round, entry.attempt] = entry
        fates._read(log, ends)
        for silo, events in told:
            fates._compare(silo, events, log, ends)
        return fates

    def _read(self, log: Sequence[Entry], ends: Mapping[tuple[int, int], RoundPublished | RoundAbandoned]) -> None:
        accepted = [entry for entry in log if isinstance(entry, UpdateAccepted)]
        published = [entry for entry in ends.values() if isinstance(entry, RoundPublished)]
        used = Counter(member.upload_id for entry in published for member in entry.cohort)
        self.accepted, self.used = len(accepted), used.total()
        self.refused = Counter(entry.code for entry in log if isinstance(entry, UpdateRefused))
        self.abandoned = Counter(entry.reason for entry in ends.values() if isinstance(entry, RoundAbandoned))
        for upload_id, times in used.items():
            if times > 1 or upload_id not in {entry.upload_id for entry in accepted}:
                self.losses.append(f"{upload_id.hex()} is in {times} cohorts")
        for entry in accepted:
            what = f"{entry.silo}'s update for round {entry.round}, attempt {entry.attempt}"
            end = ends.get((entry.round, entry.attempt))
            if end is None:
                self.losses.append(f"{what}: the attempt has no end")
            elif isinstance(end, RoundPublished) and entry.upload_id not in used:
                self.losses.append(f"{what}: accepted, and not in the cohort")
            elif isinstance(end, RoundAbandoned):
                later = [other for other in accepted if (other.silo, other.round) == (entry.silo, entry.round)]
                again = any(other.attempt > entry.attempt for other in later)
                self.repeated += again
                self.not_repeated += not again

    def _compare(
        self,
        silo: str,
        events: _Events,
        log: Sequence[Entry],
        ends: Mapping[tuple[int, int], RoundPublished | RoundAbandoned],
    ) -> None:
        """What a silo was told is what the log says."""
        taken = {(e.round, e.attempt) for e in log if isinstance(e, UpdateAccepted) and e.silo == silo}
        for event in events:
            when = (event.get("round"), event.get("attempt"))
            if event["event"] == "submitted" and when not in taken:
                self.losses.append(f"{silo} was told that its update {when} was accepted; the log has no such entry")
            if event["event"] == "outcome":
                end = ends.get(when)  # type: ignore[arg-type]
                members = [member.silo for member in end.cohort] if isinstance(end, RoundPublished) else []
                # "foreign": the silo's own, made before it lost its memory.
                if end is None or event["used"] != (silo in members and not event.get("foreign")):
                    self.losses.append(f"{silo} was told {event['text']!r}; the log says {end}")
