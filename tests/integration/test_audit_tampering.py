"""A changed, missing or foreign file never passes, and is named. Nothing here is signed again: see the forgeries."""

from collections.abc import Callable

import pytest
from audit_history import LOG_KEY
from audit_tampering import AGREEMENT, FAIL, INCOMPLETE, LONG, PASS, SHORT, audit, copy_of, flipped, named, short

from audit.entries import LogGenesis, SiloAdmitted, UpdateAccepted
from audit.log import LogWriter
from audit.report import CheckState, Line
from audit.resources import object_name


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
