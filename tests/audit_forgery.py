"""Forging the honest history of `audit_history`, signed for by the log's own key: for the tests of the audit."""

from dataclasses import replace

from audit_history import Batch, Told, agreement_of, honest

from audit.entries import Entry
from audit.log_files import LogFiles
from audit.report import AuditReport, AuditVerdict, Line
from audit.verify import verify
from protocol.agreement import Agreement

AGREEMENT = agreement_of()
HONEST = honest(AGREEMENT)


def audit(history: Told, agreement: Agreement | None = None) -> AuditReport:
    return verify(LogFiles(history.store()), agreement or history.agreement)


def assert_diverges(history: Told, index: int, line: Line, words: str, agreement: Agreement | None = None) -> None:
    report = audit(history, agreement)
    assert report.verdict is AuditVerdict.FAIL
    assert report.divergence is not None
    assert (report.divergence.entry, report.divergence.line) == (index, line), report.divergence
    assert words in report.divergence.problem
    # The files are all right: nothing is blamed on the disk.
    assert report.damage == ()


def at(kind: type[Entry], number: int = 0) -> int:
    return HONEST.index(kind, number)


def fields(kind: type[Entry], number: int = 0, **changes: object) -> Told:
    return HONEST.with_fields(at(kind, number), **changes)


def swapped(first: int, second: int) -> Told:
    """Two entries in each other's place, with each other's time."""

    def change(entries: list[Entry | bytes]) -> None:
        a, b = entries[first], entries[second]
        entries[first], entries[second] = replace(b, time=a.time), replace(a, time=b.time)  # type: ignore

    return HONEST.with_entries(change)


def without(index: int) -> Told:
    """The entry never was; all others and all batches stay."""
    batches, position = [], 0
    for batch in HONEST.batches:
        kept = tuple(e for i, e in enumerate(batch.entries, position) if i != index)
        position += len(batch.entries)
        if kept:
            batches.append(replace(batch, entries=kept))
    return replace(HONEST, batches=tuple(batches))


def inserted(index: int, *entries: Entry) -> Told:
    """More entries before an index, in a batch of their own; later entries keep their fields."""
    batches, position = [], 0
    for batch in HONEST.batches:
        if position == index:
            batches.append(Batch(entries))
        position += len(batch.entries)
        batches.append(batch)
    return replace(HONEST, batches=tuple(batches))
