"""A changed, missing or foreign file never passes, and is named. Nothing here is signed again: see the forgeries."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from audit_history import LOG_KEY, QUORUM, Recorder, Told, agreement_of, honest, identity, told

from audit.entries import LogGenesis, SiloAdmitted, UpdateAccepted
from audit.log import LogWriter
from audit.log_files import LogFiles
from audit.note import Checkpoint
from audit.report import AuditReport, AuditVerdict, CheckState, Line
from audit.resources import checkpoint_name, object_name
from audit.store import MemoryStore
from audit.verify import verify

AGREEMENT = agreement_of()
PASS, FAIL, INCOMPLETE = AuditVerdict.PASS, AuditVerdict.FAIL, AuditVerdict.INCOMPLETE


def short() -> Told:
    """Five entries: enough for every kind of file."""
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    recorder.batch(recorder.admitted("silo-4"))
    recorder.batch(recorder.opened(), cosigners=QUORUM)
    recorder.batch(recorder.accepted("silo-4"))
    return told(recorder)


SHORT = short().store()
LONG = honest(AGREEMENT)


def copy_of(store: MemoryStore) -> MemoryStore:
    copy = MemoryStore()
    for name in store.list(""):
        copy.write(name, store.read(name))
    return copy


def audit(store: MemoryStore, **kept: Checkpoint) -> AuditReport:
    return verify(LogFiles(store), AGREEMENT, kept=kept)


def named(report: AuditReport) -> set[str | None]:
    return {finding.resource for finding in (*report.damage, *report.missing)}


def flipped(store: MemoryStore, name: str, position: int, bit: int) -> MemoryStore:
    copy, data = copy_of(store), bytearray(store.read(name))
    data[position] ^= 1 << bit
    copy.write(name, bytes(data))
    return copy


def assert_every_flip_fails(name: str, stride: int) -> None:
    size = len(SHORT.read(name))
    for count, position in enumerate(range(0, size, stride)):
        report = audit(flipped(SHORT, name, position, count % 8))
        assert report.verdict is FAIL, f"{name}: bit {count % 8} of byte {position}"
        assert report.divergence is not None
        assert name in named(report) or report.divergence.resource == name, f"byte {position}: {report.divergence}"


SMALL = [name for name in SHORT.list("") if "/objects/" not in name and "/entries/" not in name]
BUNDLES = SHORT.list("log/tile/entries/")
OBJECTS = SHORT.list("log/objects/")


def test_the_untouched_log_passes() -> None:
    assert audit(SHORT).verdict is PASS
    assert audit(LONG.store()).verdict is PASS


@pytest.mark.parametrize("name", SMALL)
def test_a_bit_flipped_in_a_checkpoint_or_hash_tile(name: str) -> None:
    assert_every_flip_fails(name, 11)


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bit_flipped_in_an_entry_bundle(name: str) -> None:
    assert_every_flip_fails(name, 211)


@pytest.mark.parametrize("name", OBJECTS)
def test_a_bit_flipped_in_an_object(name: str) -> None:
    assert_every_flip_fails(name, 997)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT.list(""))
def test_a_bit_flipped_in_any_byte_of_any_small_file(name: str) -> None:
    assert_every_flip_fails(name, 1 if name in SMALL else 13)


@pytest.mark.parametrize("name", [*SMALL, *BUNDLES, *OBJECTS])
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\n", lambda data: b""])
def test_a_file_cut_short_or_with_trailing_bytes(name: str, change: Callable[[bytes], bytes]) -> None:
    store = copy_of(SHORT)
    store.write(name, change(SHORT.read(name)))
    report = audit(store)
    assert report.verdict is FAIL
    assert name in named(report)


@pytest.mark.parametrize("name", [*SMALL, *BUNDLES, *OBJECTS])
def test_a_removed_file_is_missed(name: str) -> None:
    store = copy_of(SHORT)
    store.delete(name)
    report = audit(store)
    # Without its cosigned checkpoint the release lacks its quorum, which is more than a gap.
    assert report.verdict is (FAIL if name == "log/checkpoints/4.note" else INCOMPLETE)
    assert name in named(report)


def test_a_removed_checkpoint_of_a_release_is_a_release_without_quorum() -> None:
    store = copy_of(SHORT)
    store.delete("log/checkpoints/4.note")
    divergence = audit(store).divergence
    assert divergence is not None
    assert (divergence.entry, divergence.line) == (4, Line.RELEASES)
    assert "released without a quorum" in divergence.problem


def test_nothing_is_believed_without_the_evidence_for_the_log_key() -> None:
    store, genesis = copy_of(SHORT), short().entries[0]
    assert isinstance(genesis, LogGenesis)
    store.delete(object_name(genesis.evidence))
    report = audit(store)
    assert report.verdict is INCOMPLETE
    assert report.newest is None
    assert report.counts.entries == 0
    assert {check.line for check in report.checks if check.state is CheckState.PASSED} == {Line.AGREEMENT}


@pytest.mark.parametrize(
    "name",
    [
        "log/notes.txt",
        "log/tile/0/00",
        "log/tile/0/000.p/256",
        "log/tile/0/000.p/0",
        "log/tile/00/000.p/2",
        "log/checkpoints/05.note",
        "log/checkpoints/5.note.old",
        "log/checkpoints/99999999999999999999.note",
        "log/objects/sha256/00/" + "11" * 32,
        "log/objects/sha256/11/" + "11" * 31,
        "log/objects/md5/11",
    ],
)
def test_a_foreign_file_is_named(name: str) -> None:
    store = copy_of(SHORT)
    store.write(name, b"what is this?")
    report = audit(store)
    assert report.verdict is INCOMPLETE
    assert name in named(report)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("log/tile/0/000.p/4", bytes(96)),
        ("log/tile/0/000.p/4", bytes(160)),
        ("log/tile/0/000.p/4", bytes(128)),
        ("log/tile/entries/000.p/4", b"\x00\x01a\x00\x01b\x00\x01c"),
        ("log/tile/entries/000.p/4", b"\x00\x01a\x00\x01b\x00\x01c\x00\x01d\x00\x01e"),
        ("log/tile/entries/000.p/4", b"\x00\x01a\x00\x01b\x00\x01c\x00\x02d"),
    ],
)
def test_a_partial_tile_of_the_wrong_width_or_content(name: str, data: bytes) -> None:
    store = copy_of(SHORT)
    store.write(name, data)
    report = audit(store)
    assert report.verdict is FAIL
    assert [finding.resource for finding in report.damage] == [name]


def test_a_partial_tile_that_no_checkpoint_stands_for() -> None:
    store = copy_of(SHORT)
    store.write("log/tile/0/000.p/1", SHORT.read("log/tile/0/000.p/2")[:32])
    report = audit(store)
    assert report.verdict is INCOMPLETE
    assert named(report) == {"log/checkpoints/1.note"}


def test_an_object_that_nobody_names_is_information() -> None:
    store = copy_of(SHORT)
    writer = LogWriter.open(store, AGREEMENT.log.origin, LOG_KEY)
    digest = writer.put_object(b"left by a crash before its entry")
    report = audit(store)
    assert report.verdict is PASS
    assert any(object_name(digest) in line for line in report.information)


def test_an_object_under_another_name() -> None:
    store = copy_of(SHORT)
    name = object_name(bytes(32))
    store.write(name, b"not that")
    report = audit(store)
    assert report.verdict is FAIL
    assert named(report) == {name}


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


# Damage and divergence together


def test_damage_elsewhere_does_not_hide_the_entry_that_lies() -> None:
    index = LONG.index(UpdateAccepted, -1)
    store = LONG.with_fields(index, silo="silo-3").store()
    name = store.list("log/objects/")[0]
    store.write(name, b"")
    report = audit(store)
    assert report.verdict is FAIL
    assert report.divergence is not None
    assert report.divergence.entry == index
    assert name in named(report)


def test_an_entry_changed_on_disk_is_the_files_fault_and_not_the_logs() -> None:
    """The changed entry would diverge as well; but the log never signed it, so that it convicts nobody."""
    store = LONG.store()
    name = "log/tile/entries/000.p/34"
    store.write(name, store.read(name).replace(b'"silo":"silo-4","tee"', b'"silo":"silo-9","tee"'))
    report = audit(store)
    assert report.verdict is FAIL
    assert report.divergence is not None
    assert report.divergence.entry is None
    assert report.divergence.resource == name
    assert f"entry {LONG.index(SiloAdmitted, 4)} is not the one" in report.divergence.problem
