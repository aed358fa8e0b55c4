"""A log of several tiles and two tile levels: full and partial tiles, what was pruned, and how much memory it takes."""

import tracemalloc
from collections.abc import Callable

import pytest
from audit_history import LOG_KEY, QUORUM, Recorder, Told, agreement_of, told

from audit.entries import Entry, LogClosed
from audit.log import LogWriter
from audit.log_files import LogFiles
from audit.merkle import Tree
from audit.report import AuditReport, AuditVerdict
from audit.store import MemoryStore
from audit.verify import verify

ROUNDS = 110
AGREEMENT = agreement_of(lambda text: text.replace("rounds = 2", f"rounds = {ROUNDS}"))


def history(rounds: int) -> Told:
    """Five entries a round, of two silos."""
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    recorder.batch(recorder.admitted("silo-0"))
    recorder.batch(recorder.admitted("silo-2"))
    recorder.batch(recorder.opened(), cosigners=QUORUM)
    for number in range(1, rounds + 1):
        recorder.batch(recorder.accepted("silo-0"))
        recorder.batch(recorder.accepted("silo-2"))
        recorder.batch(recorder.committed())
        following: Callable[[], Entry] = recorder.closed if number == ROUNDS else recorder.opened
        recorder.apply_and(recorder.published(), following, QUORUM)
    return told(recorder)


LONG = history(ROUNDS)
SIZE = len(LONG.entries)
STORE = LONG.store()


def copy() -> MemoryStore:
    store = MemoryStore()
    for name in STORE.list(""):
        store.write(name, STORE.read(name))
    return store


def audit(store: MemoryStore) -> AuditReport:
    return verify(LogFiles(store), AGREEMENT)


def test_a_log_of_several_tiles_passes() -> None:
    assert SIZE == 555
    assert STORE.exists("log/tile/0/001")
    assert STORE.exists("log/tile/1/000.p/2")
    report = audit(STORE)
    assert report.verdict is AuditVerdict.PASS, report.missing
    assert report.counts.rounds_published == ROUNDS
    assert report.information == ()


def test_it_tells_how_far_it_is() -> None:
    told_progress: list[tuple[int, int]] = []
    verify(LogFiles(STORE), AGREEMENT, progress=lambda done, total: told_progress.append((done, total)))
    assert told_progress == sorted(told_progress)
    assert told_progress[-1] == (SIZE, SIZE)
    assert len(told_progress) > 5


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("log/tile/0/000", 0),
        ("log/tile/0/000", 8191),
        ("log/tile/0/001", 4000),
        ("log/tile/0/002.p/43", 5),
        ("log/tile/1/000.p/1", 31),
        ("log/tile/1/000.p/2", 1),
        ("log/tile/entries/000", 100_000),
        ("log/tile/entries/001", 70_000),
        ("log/tile/entries/002.p/43", 9_000),
        ("log/tile/entries/002.p/8", 900),
    ],
)
def test_a_bit_flipped_in_a_full_or_partial_tile(name: str, position: int) -> None:
    store = copy()
    data = bytearray(store.read(name))
    data[position % len(data)] ^= 4
    store.write(name, bytes(data))
    report = audit(store)
    assert report.verdict is AuditVerdict.FAIL
    assert report.divergence is not None
    assert report.divergence.resource == name
    assert report.divergence.entry is None


@pytest.mark.parametrize(
    "name", ["log/tile/0/000", "log/tile/0/001", "log/tile/1/000.p/2", "log/tile/1/000.p/1", "log/tile/0/002.p/8"]
)
def test_a_missing_hash_tile(name: str) -> None:
    store = copy()
    store.delete(name)
    report = audit(store)
    assert report.verdict is AuditVerdict.INCOMPLETE
    assert [finding.resource for finding in report.missing] == [name]
    assert report.counts.entries == SIZE


def test_a_missing_bundle_ends_the_replay() -> None:
    store = copy()
    store.delete("log/tile/entries/001")
    report = audit(store)
    assert report.verdict is AuditVerdict.INCOMPLETE
    assert [finding.resource for finding in report.missing] == ["log/tile/entries/001"]
    assert report.counts.entries == 256


def test_bundles_swapped() -> None:
    store = copy()
    for name, other in (("000", "001"), ("001", "000")):
        store.write(f"log/tile/entries/{name}", STORE.read(f"log/tile/entries/{other}"))
    report = audit(store)
    assert report.verdict is AuditVerdict.FAIL
    assert str(report.divergence).startswith("log/tile/entries/000: entry 0 is not the one that log/tile/")


@pytest.mark.parametrize("last", ["partial tile", "anything"])
def test_a_partial_tile_hashed_upward(last: str) -> None:
    """A third hash on level 1, which is to have one for each of the two full tiles below: over the partial one."""
    store = copy()
    hashes = [STORE.read("log/tile/0/002.p/43")[start : start + 32] for start in range(0, 43 * 32, 32)]
    upward = Tree(hashes).head().root if last == "partial tile" else bytes(32)
    store.write("log/tile/1/000.p/3", STORE.read("log/tile/1/000.p/2") + upward)
    report = audit(store)
    assert report.verdict is AuditVerdict.INCOMPLETE
    assert [finding.resource for finding in report.missing] == ["log/tile/1/000.p/3"]
    assert "lies beyond the newest checkpoint" in report.missing[0].problem
    store.delete("log/tile/1/000.p/2")
    assert "log/tile/1/000.p/2" in [finding.resource for finding in audit(store).missing]


def test_a_superseded_partial_tile_is_information_if_it_is_right() -> None:
    store = copy()
    store.write("log/tile/0/001.p/9", STORE.read("log/tile/0/001")[: 9 * 32])
    report = audit(store)
    assert report.verdict is AuditVerdict.PASS
    assert any("log/tile/0/001.p/9" in line for line in report.information)
    store.write("log/tile/0/001.p/9", STORE.read("log/tile/0/001")[32 : 10 * 32])
    report = audit(store)
    assert report.verdict is AuditVerdict.FAIL
    assert [finding.resource for finding in report.damage] == ["log/tile/0/001.p/9"]


def test_a_partial_tile_that_hides_a_removed_checkpoint() -> None:
    """It was written for a checkpoint that isn't there any more, though its tile has long been full."""
    store = copy()
    size = next(size for size in range(300, 310) if not STORE.exists(f"log/checkpoints/{size}.note"))
    store.write(f"log/tile/0/001.p/{size - 256}", STORE.read("log/tile/0/001")[: (size - 256) * 32])
    report = audit(store)
    assert report.verdict is AuditVerdict.INCOMPLETE
    assert [finding.resource for finding in report.missing] == [f"log/checkpoints/{size}.note"]


def test_a_lie_deep_in_the_log_is_found_under_all_that_follows() -> None:
    index = LONG.index(LogClosed) - 300
    kind = type(LONG.entries[index])
    store = LONG.with_fields(index, time=1).store()
    report = audit(store)
    assert report.verdict is AuditVerdict.FAIL
    assert report.divergence is not None
    assert (report.divergence.entry, report.divergence.kind) == (index, kind.KIND)  # type: ignore[union-attr]


def test_memory_does_not_grow_with_the_log() -> None:
    """Four times the entries in the same memory, but for what the transition table remembers of upload ids."""

    def peak(rounds: int) -> int:
        store = history(rounds).store()
        verify(LogFiles(store), AGREEMENT)
        tracemalloc.start()
        try:
            assert verify(LogFiles(store), AGREEMENT).verdict is AuditVerdict.PASS
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(109) < 1.7 * peak(45)


def test_an_open_writer_and_the_audit_agree() -> None:
    store = copy()
    writer = LogWriter.open(store, AGREEMENT.log.origin, LOG_KEY)
    report = audit(store)
    assert report.newest is not None
    assert (report.newest.size, report.newest.root) == (writer.size, writer.root())
