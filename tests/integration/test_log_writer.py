"""The log's writer and reader over a real directory: batches, tiles, pruning, cosignatures, objects, reopening."""

from hashlib import sha256

import pytest

from audit.log import LogDamagedError, LogExistsError, LogReader, LogStoppedError, LogWriter
from audit.merkle import leaf_hash, verify_consistency, verify_inclusion
from audit.note import Checkpoint, VerifierKey
from audit.resources import CHECKPOINT, TILES, checkpoint_name, object_name
from audit.store import DirectoryStore, MemoryStore, NotFound
from audit.tiles import entry_bundles, hash_tiles
from protocol.errors import MalformedError
from protocol.keys import SigningKey

KEY = SigningKey(b"\x01" * 32)
SILO = SigningKey(b"\x02" * 32)
ORIGIN = "simulated.example/log"
LOG_KEY = VerifierKey.of_log(ORIGIN, KEY.public)
SILO_KEY = VerifierKey.of_cosigner(f"{ORIGIN}/silo/a", SILO.public)


def batch(start, count):
    return [b"entry %d" % index for index in range(start, start + count)]


@pytest.fixture
def store(tmp_path):
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def writer(store):
    return LogWriter.create(store, ORIGIN, KEY)


def partial_tiles(store):
    return [name for name in store.list(TILES) if ".p/" in name]


def test_a_batch_is_one_checkpoint_that_covers_it(store, writer):
    checkpoint = writer.append(batch(0, 3))
    checkpoint.verify(LOG_KEY)
    assert checkpoint.size == writer.size == 3
    assert checkpoint.root == writer.root()
    assert store.read(CHECKPOINT) == store.read(checkpoint_name(3)) == writer.checkpoint == checkpoint.encode()
    assert store.list("log/") == [
        "log/checkpoint",
        "log/checkpoints/3.note",
        "log/tile/0/000.p/3",
        "log/tile/entries/000.p/3",
    ]


def test_every_entry_and_every_earlier_size_is_proven(writer):
    total = 0
    heads = []
    for count in (1, 2, 300, 7, 1):
        writer.append(batch(total, count))
        total += count
        heads.append(writer.head())
    for old in heads:
        verify_consistency(old=old, new=writer.head(), proof=writer.consistency(old.size))
        assert writer.checkpoint_at(old.size).head == old
    for index in (0, 1, 255, 256, total - 1):
        assert writer.entry(index) == b"entry %d" % index
        proof = writer.inclusion(index)
        verify_inclusion(leaf=leaf_hash(writer.entry(index)), index=index, proof=proof, head=writer.head())
        writer.receipt(index).verify(writer.entry(index), log_key=LOG_KEY, quorum=None)
    writer.receipt(2, 3).verify(b"entry 2", log_key=LOG_KEY, quorum=None)


def test_partial_tiles_stay_until_the_full_tile_is_there_and_no_longer(store, writer):
    writer.append(batch(0, 100))
    writer.append(batch(100, 155))
    assert len(partial_tiles(store)) == 4
    writer.append(batch(255, 1))
    assert partial_tiles(store) == ["log/tile/1/000.p/1"]
    writer.append(batch(256, 300))
    assert partial_tiles(store) == [
        "log/tile/0/002.p/44",
        "log/tile/1/000.p/1",
        "log/tile/1/000.p/2",
        "log/tile/entries/002.p/44",
    ]
    reader = LogReader(store)
    expected = {f"log/{tile.path}" for tile in [*entry_bundles(556), *hash_tiles(556)]}
    assert expected <= set(store.list(TILES))
    assert list(reader.entries()) == batch(0, 556)


def test_a_reader_at_an_older_checkpoint_falls_back_to_full_tiles(store, writer):
    writer.append(batch(0, 200))
    reader = LogReader(store)
    writer.append(batch(200, 100))
    assert reader.size == 200
    assert reader.entry(199) == b"entry 199"
    assert reader.root() == writer.root(200)
    assert LogReader(store).size == 300


def test_reopened_it_goes_on_where_it_was(store, writer):
    writer.append(batch(0, 300))
    before = writer.checkpoint
    again = LogWriter.open(store, ORIGIN, KEY)
    assert again.checkpoint == before
    checkpoint = again.append(batch(300, 30))
    verify_consistency(old=writer.head(), new=checkpoint.head, proof=again.consistency(300))
    assert [again.entry(index) for index in range(330)] == batch(0, 330)


def test_no_log_is_created_over_one_and_none_opened_where_none_is(store, writer):
    with pytest.raises(NotFound):
        LogWriter.open(store, ORIGIN, KEY)
    with pytest.raises(NotFound):
        LogReader(store)
    with pytest.raises(NotFound):
        _ = writer.checkpoint
    writer.append(batch(0, 1))
    with pytest.raises(LogExistsError):
        LogWriter.create(store, ORIGIN, KEY)
    store.delete(CHECKPOINT)
    with pytest.raises(LogExistsError):
        LogWriter.create(store, ORIGIN, KEY)


@pytest.mark.parametrize("entries", [[], [b"fine", bytes(65_536)]])
def test_batches_that_cannot_be_logged_are_refused_before_anything_is_written(store, writer, entries):
    with pytest.raises(ValueError, match="append"):
        writer.append(entries)
    assert store.list("") == []
    assert writer.append([bytes(65_535), b""]).size == 2
    assert LogWriter.open(store, ORIGIN, KEY).entry(0) == bytes(65_535)


@pytest.mark.parametrize("call", ["entry", "inclusion"])
@pytest.mark.parametrize("index", [-1, 3, 2**63])
def test_indexes_that_are_not_there_are_refused(store, writer, call, index):
    writer.append(batch(0, 3))
    for log in (writer, LogReader(store)):
        with pytest.raises(ValueError, match="expected an index below"):
            getattr(log, call)(index)


@pytest.mark.parametrize("size", [-1, 4])
def test_sizes_beyond_the_checkpoint_are_refused(store, writer, size):
    writer.append(batch(0, 3))
    for log in (writer, LogReader(store)):
        for call in (lambda log=log: log.inclusion(0, size), lambda log=log: log.consistency(1, size)):
            with pytest.raises(ValueError, match="expected 0 to 3"):
                call()
        with pytest.raises(ValueError, match="expected 0 to 3"):
            log.root(size)


def test_another_key_or_origin_opens_nothing(store, writer):
    writer.append(batch(0, 3))
    for origin, key in [(ORIGIN, SILO), ("simulated.example/other", KEY)]:
        with pytest.raises(LogDamagedError) as caught:
            LogWriter.open(store, origin, key)
        assert caught.value.name == checkpoint_name(3)


def line(checkpoint, name="a", key=SILO, time=7):
    return checkpoint.cosign(f"{ORIGIN}/silo/{name}", key, time=time).encode()


def test_cosignatures_are_kept_with_the_checkpoint_and_survive(store, writer):
    checkpoint = writer.append(batch(0, 3))
    returned = writer.add_cosignatures(3, [line(checkpoint)])
    assert store.read(CHECKPOINT) == store.read(checkpoint_name(3)) == writer.checkpoint == returned.encode()
    again = LogWriter.open(store, ORIGIN, KEY)
    assert [verified.key for verified in again.checkpoint_at(3).note.verify([SILO_KEY])] == [SILO_KEY]
    # A second one by the same key changes nothing; one by another key is added.
    other = SigningKey(b"\x03" * 32)
    again.add_cosignatures(3, [line(checkpoint, time=9), line(checkpoint, "b", other)])
    assert len(Checkpoint.parse(store.read(CHECKPOINT)).note.signatures) == 3


def test_cosignatures_of_an_older_checkpoint_leave_the_newest_alone(store, writer):
    old = writer.append(batch(0, 3))
    new = writer.append(batch(3, 3))
    writer.add_cosignatures(3, [line(old)])
    assert store.read(CHECKPOINT) == new.encode()
    assert len(writer.checkpoint_at(3).note.signatures) == 2
    assert writer.append(batch(6, 1)).size == 7


def test_lines_that_are_none_and_sizes_that_were_never_signed_stop_nothing(writer):
    checkpoint = writer.append(batch(0, 3))
    with pytest.raises(MalformedError):
        writer.add_cosignatures(3, ["no line"])
    with pytest.raises(MalformedError, match="at most 100"):
        writer.add_cosignatures(3, [f"— other{number} AAAAAAA=\n" for number in range(100)])
    with pytest.raises(NotFound):
        writer.add_cosignatures(2, [line(checkpoint)])
    assert writer.append(batch(3, 1)).size == 4


def test_objects_are_found_by_digest_and_checked(store, writer):
    digest = writer.put_object(b"evidence")
    assert digest == sha256(b"evidence").digest()
    assert object_name(digest) == f"log/objects/sha256/{digest.hex()[:2]}/{digest.hex()}"
    assert writer.put_object(b"evidence") == digest
    writer.append(batch(0, 1))
    for log in (writer, LogReader(store)):
        assert log.get_object(digest) == b"evidence"
        with pytest.raises(LogDamagedError, match="found none"):
            log.get_object(bytes(32))
    store.write(object_name(digest), b"evidencf")
    for log in (writer, LogReader(store)):
        with pytest.raises(LogDamagedError, match="expected SHA-256"):
            log.get_object(digest)
    writer.put_object(b"evidence")
    assert writer.get_object(digest) == b"evidence"


def test_a_second_writer_on_the_same_store_stops_before_it_signs(store, writer):
    writer.append(batch(0, 3))
    second = LogWriter.open(store, ORIGIN, KEY)
    writer.append(batch(3, 1))
    before = {name: store.read(name) for name in store.list("")}
    for _ in range(2):
        with pytest.raises(LogStoppedError):
            second.append([b"fork"])
    assert {name: store.read(name) for name in store.list("")} == before
    assert LogWriter.open(store, ORIGIN, KEY).append([b"on"]).size == 5


def test_the_writer_rereads_nothing_that_the_store_could_have_changed():
    store = MemoryStore()
    writer = LogWriter.create(store, ORIGIN, KEY)
    writer.append(batch(0, 3))
    for name in store.list(TILES):
        store.write(name, store.read(name)[:-1] + b"?")
    verify_inclusion(leaf=leaf_hash(b"entry 1"), index=1, proof=writer.inclusion(1), head=writer.head())
    assert writer.entry(1) == b"entry 1"
    with pytest.raises(LogDamagedError, match="entry 2 is not the one that was logged"):
        writer.entry(2)
    writer.append(batch(3, 1))
    assert LogReader(store).root() == writer.root()
