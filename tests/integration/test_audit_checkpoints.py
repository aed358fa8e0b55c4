"""Checkpoints: truncated, stale, forked, falsely signed or cosigned, and those that somebody has kept."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from audit_history import LOG_KEY, Recorder, identity
from audit_tampering import AGREEMENT, FAIL, INCOMPLETE, PASS, SHORT, audit, copy_of, named, short

from audit.entries import LogGenesis
from audit.log import LogWriter
from audit.note import Checkpoint
from audit.resources import checkpoint_name
from audit.store import MemoryStore
from audit.tiles import encode_bundle


def test_a_genesis_planted_in_a_wider_bundle_vouches_for_nothing_else() -> None:
    """Two leaves 0: the one whose evidence is appraised must be the one that the checkpoints sign."""
    store = copy_of(SHORT)
    genesis = short().entries[0]
    assert isinstance(genesis, LogGenesis)
    other = replace(genesis, time=genesis.time + 1).encode()
    store.write("log/tile/entries/000", encode_bundle([other] * 256))
    head = replace(Checkpoint.parse(SHORT.read("log/checkpoint")).head, size=900)
    store.write("log/checkpoints/900.note", Checkpoint.sign(AGREEMENT.log.origin, head, identity("silo-1")).encode())
    report = audit(store)
    assert report.verdict is FAIL
    assert report.divergence is not None
    assert report.divergence.entry == 0
    assert "whose evidence was appraised" in report.divergence.problem


# Tails and crashes


def test_a_truncated_tail_with_its_tiles_left_behind() -> None:
    """The newest checkpoint removed and the former one put in its place: what lies beyond shows it."""
    store = copy_of(SHORT)
    store.write("log/checkpoint", SHORT.read("log/checkpoints/4.note"))
    store.delete("log/checkpoints/5.note")
    report = audit(store)
    assert report.verdict is INCOMPLETE
    assert named(report) == {"log/tile/0/000.p/5", "log/tile/entries/000.p/5"}
    assert report.newest is not None
    assert report.newest.size == 4


def truncated() -> MemoryStore:
    """The store as it was an entry earlier, to the last byte."""
    store = MemoryStore()
    for name in SHORT.list(""):
        if not name.endswith(("/5", "5.note")):
            store.write(name, SHORT.read(name))
    store.write("log/checkpoint", SHORT.read("log/checkpoints/4.note"))
    return store


def test_nothing_in_a_perfectly_truncated_store_tells_and_the_report_says_so() -> None:
    report = audit(truncated())
    assert report.verdict is PASS
    assert report.newest is not None
    assert report.newest.size == 4
    assert any("a checkpoint that a silo has kept can tell" in line for line in report.not_checked)


def test_a_perfectly_truncated_store_fails_a_kept_checkpoint() -> None:
    report = audit(truncated(), ours=Checkpoint.parse(SHORT.read("log/checkpoint")))
    assert report.verdict is FAIL
    assert str(report.divergence) == "ours: this log had 5 entries once, and now has 4: it was rolled back, or cut"


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_a_kept_checkpoint_that_the_log_still_holds(size: int) -> None:
    report = audit(SHORT, ours=Checkpoint.parse(SHORT.read(checkpoint_name(size))))
    assert report.verdict is PASS


@pytest.mark.parametrize("size", [3, 5])
def test_a_kept_checkpoint_of_another_history(size: int) -> None:
    checkpoint = Checkpoint.parse(SHORT.read(checkpoint_name(size)))
    other = Checkpoint.sign(checkpoint.origin, replace(checkpoint.head, root=bytes(32)), LOG_KEY)
    report = audit(SHORT, ours=other)
    assert report.verdict is FAIL
    assert report.divergence is not None
    assert report.divergence.resource == "ours"
    assert "two histories" in report.divergence.problem


def test_a_kept_checkpoint_that_the_store_has_lost() -> None:
    store = truncated()
    store.delete("log/checkpoints/3.note")
    for name in ("log/tile/0/000.p/3", "log/tile/entries/000.p/3"):
        store.delete(name)
    assert audit(store).verdict is PASS
    report = audit(store, ours=Checkpoint.parse(SHORT.read("log/checkpoints/3.note")))
    assert report.verdict is INCOMPLETE
    assert named(report) == {"log/checkpoints/3.note"}


def test_a_kept_checkpoint_of_another_log() -> None:
    head = Checkpoint.parse(SHORT.read("log/checkpoint")).head
    for kept in (
        Checkpoint.sign(AGREEMENT.log.origin, replace(head, size=9), identity("silo-0")),
        Checkpoint.sign(AGREEMENT.log.origin, head, identity("silo-0")),
        Checkpoint.sign("simulated.example/other", head, LOG_KEY),
    ):
        report = audit(SHORT, ours=kept)
        assert report.verdict is FAIL
        assert named(report) == {"ours"}


def test_a_bundle_with_its_last_entry_cut_off() -> None:
    store = copy_of(SHORT)
    store.write("log/tile/entries/000.p/5", SHORT.read("log/tile/entries/000.p/4"))
    report = audit(store)
    assert report.verdict is FAIL
    assert report.divergence is not None
    assert report.divergence.resource == "log/tile/entries/000.p/5"


def test_a_checkpoint_file_one_batch_behind_is_a_crash() -> None:
    store = copy_of(SHORT)
    store.write("log/checkpoint", SHORT.read("log/checkpoints/4.note"))
    report = audit(store)
    assert report.verdict is PASS
    assert any("one batch behind" in line for line in report.information)


def test_a_checkpoint_file_further_behind_is_a_rollback() -> None:
    store = copy_of(SHORT)
    store.write("log/checkpoint", SHORT.read("log/checkpoints/3.note"))
    report = audit(store)
    assert report.verdict is FAIL
    assert report.divergence is not None
    assert report.divergence.resource == "log/checkpoint"


@pytest.mark.parametrize("writes", range(1, 8))
def test_a_store_that_a_crash_left_never_fails(writes: int) -> None:
    """Stopped at any write of one more batch: what is unsigned is INCOMPLETE at most."""

    class Stopped(Exception):
        pass

    class Crashing(MemoryStore):
        left = writes

        def write(self, name: str, data: bytes) -> None:
            if self.left == 0:
                raise Stopped
            self.left -= 1
            super().write(name, data)

    store, recorder = Crashing(), Recorder(AGREEMENT)
    store.left = 10_000
    for name in SHORT.list(""):
        store.write(name, SHORT.read(name))
    writer = LogWriter.open(store, AGREEMENT.log.origin, LOG_KEY)
    for entry in short().entries:
        recorder.history.apply(entry)  # type: ignore[arg-type]
    recorder.time, recorder.uploads = recorder.time + 100, 100
    admitted = recorder.admitted("silo-3")
    store.left = writes
    try:
        for data in recorder.objects.values():
            writer.put_object(data)
        writer.append([admitted.encode()])
    except Stopped:
        assert audit(store).verdict in (PASS, INCOMPLETE)
        store.left = 10_000
        LogWriter.open(store, AGREEMENT.log.origin, LOG_KEY)
    assert audit(store).verdict is PASS


def test_a_log_that_grows_while_it_is_read_never_fails() -> None:
    class Live(MemoryStore):
        """The appliance goes on as soon as the auditor reads the first entries."""

        grow: Callable[[], object] | None = None

        def read(self, name: str, *, limit_bytes: int = 2**25) -> bytes:
            if name.startswith("log/tile/entries/") and self.grow is not None:
                grow, self.grow = self.grow, None
                grow()
            return super().read(name, limit_bytes=limit_bytes)

    store = Live()
    for name in SHORT.list(""):
        store.write(name, SHORT.read(name))
    writer = LogWriter.open(store, AGREEMENT.log.origin, LOG_KEY)
    store.grow = lambda: writer.append([b"more"])
    report = audit(store)
    assert report.verdict is INCOMPLETE
    assert "changed while the log was read" in str(report.missing[0])


# Checkpoints


def resigned(store: MemoryStore, size: int, change: Callable[[Checkpoint], Checkpoint]) -> MemoryStore:
    copy = copy_of(store)
    checkpoint = change(Checkpoint.parse(store.read(checkpoint_name(size))))
    copy.write(checkpoint_name(size), checkpoint.encode())
    return copy


def test_a_second_history_under_the_logs_own_key() -> None:
    """A fork that only a kept checkpoint shows: signed, of an earlier size, with another root."""
    store = resigned(SHORT, 3, lambda c: Checkpoint.sign(c.origin, replace(c.head, root=bytes(32)), LOG_KEY))
    report = audit(store)
    assert report.verdict is FAIL
    assert report.divergence is not None
    assert report.divergence.resource == "log/checkpoints/3.note"
    assert "two histories" in report.divergence.problem


def test_two_roots_at_the_newest_size() -> None:
    store = resigned(SHORT, 5, lambda c: Checkpoint.sign(c.origin, replace(c.head, root=bytes(32)), LOG_KEY))
    report = audit(store)
    assert report.verdict is FAIL
    assert "log/checkpoints/5.note" in named(report)


def test_a_checkpoint_signed_by_another_key() -> None:
    store = resigned(SHORT, 5, lambda c: Checkpoint.sign(c.origin, c.head, identity("silo-0")))
    store.delete("log/checkpoint")
    report = audit(store)
    assert report.verdict is FAIL
    assert "log/checkpoints/5.note" in named(report)


def test_a_checkpoint_of_another_log() -> None:
    store = resigned(SHORT, 3, lambda c: Checkpoint.sign("simulated.example/other", c.head, LOG_KEY))
    report = audit(store)
    assert report.verdict is FAIL
    assert report.divergence is not None
    assert report.divergence.resource == "log/checkpoints/3.note"


def test_a_checkpoint_beyond_the_log_signed_by_nobody_we_know() -> None:
    store = copy_of(SHORT)
    head = replace(Checkpoint.parse(SHORT.read("log/checkpoint")).head, size=900)
    store.write("log/checkpoints/900.note", Checkpoint.sign(AGREEMENT.log.origin, head, identity("silo-1")).encode())
    report = audit(store)
    assert report.verdict is FAIL
    assert named(report) == {"log/checkpoints/900.note"}
    assert report.newest is not None
    assert report.newest.size == 5


def test_a_checkpoint_under_another_size_s_name() -> None:
    store = copy_of(SHORT)
    store.write("log/checkpoints/3.note", SHORT.read("log/checkpoints/4.note"))
    report = audit(store)
    assert report.verdict is FAIL
    assert "log/checkpoints/3.note" in named(report)


def cosigned(checkpoint: Checkpoint, name: str, silo: str, *, of: Checkpoint | None = None) -> Checkpoint:
    line = (of or checkpoint).cosign(f"{AGREEMENT.log.origin}/{name}", identity(silo), time=1)
    return checkpoint.with_signatures([line])


def test_a_false_cosignature_by_a_silo() -> None:
    other = Checkpoint.parse(SHORT.read("log/checkpoints/3.note"))
    store = resigned(SHORT, 5, lambda c: cosigned(c, "silo-1", "silo-1", of=other))
    report = audit(store)
    assert report.verdict is FAIL
    assert "log/checkpoints/5.note" in named(report)


def test_a_cosignature_in_another_silos_name() -> None:
    store = resigned(SHORT, 5, lambda c: cosigned(c, "silo-1", "silo-2"))
    report = audit(store)
    assert report.verdict is FAIL
    assert "the name of one key and the id of another" in str(report.divergence)


def test_a_cosignature_by_a_stranger_is_not_checked() -> None:
    store = resigned(SHORT, 5, lambda c: cosigned(c, "a-witness", "a-witness"))
    report = audit(store)
    assert report.verdict is INCOMPLETE
    assert "whom the agreement does not name" in str(report.missing[0])


def test_a_log_that_cosigns_itself() -> None:
    store = resigned(SHORT, 5, lambda c: c.with_signatures([c.cosign(AGREEMENT.log.origin, LOG_KEY, time=1)]))
    assert audit(store).verdict is FAIL
