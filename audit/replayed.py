"""What an audit has replayed, counted by kind. Pure; called by the audit."""

from audit.entries import (
    ApplianceStarted,
    ControlReset,
    Entry,
    RoundAbandoned,
    RoundPublished,
    SiloAdmitted,
    SiloRefused,
    UpdateRefused,
)
from audit.report import Counts


class Replayed:
    """Counts entries. `notes`: what the replay found that is no fault."""

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self._updates_used = 0
        self._kinds: dict[str, int] = {}

    def entry(self, entry: Entry) -> None:
        """One more."""
        kind = str(entry.KIND)
        self._kinds[kind] = self._kinds.get(kind, 0) + 1
        if isinstance(entry, RoundPublished):
            self._updates_used += len(entry.cohort)

    def total(self) -> int:
        """All entries."""
        return sum(self._kinds.values())

    def counts(self, *, checkpoints: int, evidence_appraised: int, objects: int) -> Counts:
        """For the report, with what others have counted."""
        return Counts(
            entries=self.total(),
            checkpoints=checkpoints,
            boots=self._of(ApplianceStarted),
            admissions=self._of(SiloAdmitted),
            refusals=self._of(SiloRefused),
            rounds_published=self._of(RoundPublished),
            attempts_abandoned=self._of(RoundAbandoned),
            updates_used=self._updates_used,
            updates_refused=self._of(UpdateRefused),
            control_resets=self._of(ControlReset),
            evidence_appraised=evidence_appraised,
            objects=objects,
        )

    def _of(self, kind: type[Entry]) -> int:
        return self._kinds.get(str(kind.KIND), 0)
