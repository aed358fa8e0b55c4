"""Releases: nothing derived from an update left the enclave before the quorum had cosigned what it rests on.

That a silo answered an attempt (`update.accepted`, `update.refused`) proves that it was announced; before that, a
checkpoint with a quorum must have covered the attempt's `round.opened`, and with it this boot's `appliance.started` and
the `published` entry of the model that was released. And the cohort was fixed before there was an aggregate: between
`round.committed` and `round.published` lies a checkpoint.

Pure; trusts that the votes were verified. Called by the audit.
"""

from collections.abc import Callable
from typing import ClassVar

from audit.divergence import DivergenceError
from audit.entries import (
    Entry,
    LogClosed,
    LogSuperseded,
    RoundAbandoned,
    RoundCommitted,
    RoundOpened,
    RoundPublished,
    UpdateAccepted,
    UpdateRefused,
)
from audit.findings import Findings
from audit.quorum import Quorum, Tally
from audit.replay import History
from audit.report import Line


class Releases:
    """Watches checkpoints and entries in the order of the log."""

    NOT_KEPT: ClassVar = frozenset({"_quorum", "_note", "_findings"})

    def __init__(self, quorum: Quorum, note: Callable[[str], None], findings: Findings) -> None:
        """`note` is told what is no fault and worth knowing."""
        self.quorum_size = 0
        self.checked = 0
        self._note = note
        self._quorum = quorum
        self._findings = findings
        self._signed = 0
        self._committed = 0
        self._opened: tuple[int, RoundOpened] | None = None
        self._closed: int | None = None
        # The best cosigned checkpoint since the attempt was opened: its size, and by whom.
        self._best: tuple[int, Tally] | None = None
        self._answered = False

    def checkpoint(self, size: int, votes: Tally) -> None:
        """An authentic checkpoint; to be called before the entry of index `size`."""
        self._signed = size
        if self._quorum.is_met(votes):
            self.quorum_size = size
        if self._best is None or _count(votes) > _count(self._best[1]):
            self._best = size, votes

    def entry(self, index: int, entry: Entry, history: History) -> None:
        """An entry that `history` has taken; raises `DivergenceError` if it shows a release without its quorum."""
        if isinstance(entry, RoundOpened):
            self._opened, self._best, self._answered = (index, entry), None, False
        elif isinstance(entry, UpdateAccepted | UpdateRefused) and not self._answered:
            self._require_quorum(index, entry, history)
            self._answered = True
            self.checked += 1
        elif isinstance(entry, RoundCommitted):
            self._committed = index
        elif isinstance(entry, RoundPublished | RoundAbandoned):
            if isinstance(entry, RoundPublished) and self._signed <= self._committed:
                self._note_uncommitted(index, entry)
            self._note_unreleased("was never released")
            self._opened = None
        elif isinstance(entry, LogClosed | LogSuperseded):
            self._closed = index

    def conclude(self) -> None:
        """What the log leaves open is no fault: it is said."""
        self._note_unreleased("is not released yet")
        if self._closed is not None and self.quorum_size <= self._closed:
            self._note(
                f"entry {self._closed} (the log's end): no quorum has cosigned it; the final model is not released yet"
            )

    def _require_quorum(self, index: int, entry: Entry, history: History) -> None:
        opened = history.opened_index
        # A boot ends the attempts of the one before, so that `opened` is of this boot; said again because it is the
        # rule that stops a rolled-back enclave.
        if self.quorum_size > opened > history.started_index:
            return
        found = "none with any"
        size, votes = self._best or (0, Tally())
        if size > opened and _count(votes):
            found = f"at best one of {size} entries, by {votes} (missing: {self._quorum.missing(votes)})"
        raise DivergenceError(
            index,
            entry.KIND,
            f"released without a quorum: expected a checkpoint of {opened + 1} to {index} entries cosigned by "
            f"{self._quorum}, found {found}",
        )

    def _note_uncommitted(self, index: int, entry: RoundPublished) -> None:
        # No contradiction: a checkpoint that was deleted looks the same.
        problem = (
            f"expected a checkpoint of {self._committed + 1} to {index} entries, which fixed the cohort before there "
            "was an aggregate, found none"
        )
        self._findings.uncheckable(Line.RELEASES, problem, entry=index, kind=entry.KIND)

    def _note_unreleased(self, how: str) -> None:
        if self._opened is not None and self.quorum_size <= self._opened[0]:
            index, opened = self._opened
            attempt = f"round {opened.round} attempt {opened.attempt}"
            self._note(f"entry {index} (round.opened): {attempt} {how}: no quorum cosigned it")


def _count(votes: Tally) -> int:
    return len(votes.owners) + len(votes.witnesses)
