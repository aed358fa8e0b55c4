"""Going on from a verification where the log's key was rotated, before or after; and a store that changes meanwhile."""

from dataclasses import replace

import pytest
from audit_tampering import copy_of
from rotated_history import AGREEMENT, HONEST

from audit import resuming
from audit.entries import KeyRotated
from audit.log_files import LogFiles
from audit.report import AuditReport, AuditVerdict
from audit.resumption import Resumption
from audit.store import MAXIMUM_READ_BYTES, MemoryStore
from audit.verify import verify

STORE = HONEST.store()
ROTATED = HONEST.index(KeyRotated)
HEAD = "the head of the verification before"


@pytest.fixture(scope="module")
def kept() -> list[Resumption]:
    found: list[Resumption] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resuming, "KEEP_EVERY_ENTRIES", 1)
        verify(LogFiles(STORE), AGREEMENT, keep=lambda item: found.append(Resumption.parse(item.encode())))
    return found


def said(report: AuditReport) -> AuditReport:
    checks = tuple(replace(check, detail="") for check in report.checks)
    return replace(report, checks=checks, information=())


def test_every_head_is_kept_and_gone_on_from_across_rotations(kept: list[Resumption]) -> None:
    assert {item.size <= ROTATED for item in kept} == {True, False}
    for resumed in kept[::3]:
        report = verify(LogFiles(STORE), AGREEMENT, resumed=resumed)
        assert report.verdict is AuditVerdict.PASS, report.divergence
        scratch = verify(LogFiles(STORE), AGREEMENT, kept={HEAD: resumed.checkpoint})
        assert said(report) == said(scratch)
        assert any("were not judged again" in note for note in report.information)


class Shifting(MemoryStore):
    """Shows an entry bundle once as it was told to, and then as it is."""

    def __init__(self, name: str, first: bytes) -> None:
        super().__init__()
        self._name, self._first, self._left = name, first, 2

    def read(self, name: str, *, limit_bytes: int = MAXIMUM_READ_BYTES) -> bytes:
        if name == self._name and self._left:
            self._left -= 1
            return self._first
        return super().read(name, limit_bytes=limit_bytes)


def test_a_rotation_that_is_shown_once_and_then_gone_is_a_divergence() -> None:
    """Who serves the store could have heads read under a key that no entry of the walk names."""
    name = next(name for name in STORE.list("log/tile/entries/") if name.endswith(f".p/{len(HONEST.entries)}"))
    rotation = HONEST.entries[ROTATED]
    assert isinstance(rotation, KeyRotated)
    shown = HONEST.with_entries(lambda entries: entries.__setitem__(ROTATED - 1, rotation)).store()
    store = Shifting(name, shown.read(name))
    for other in STORE.list("log/"):
        store.write(other, copy_of(STORE).read(other))
    report = verify(LogFiles(store), AGREEMENT)
    assert report.verdict is AuditVerdict.FAIL
    assert "the store is being changed" in str(report.divergence), report.divergence
